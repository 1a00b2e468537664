package overlay

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// errClosed: the Mounter is closed.
var errClosed = errors.New("the mounter is closed")

// apart is the room of a Mounter, on a kernel that needs one. The zero value has none yet.
type apart struct {
	asking sync.Mutex
	// asked: the kernel has said whether layers that are mounts must be attached: always.
	asked, always bool

	mu     sync.Mutex // one at a time is in the room
	room   *room
	closed bool
}

// needed says whether those of these lowers that are mounts must be attached. It is asked of the kernel once, by copying the first: Linux has both,
// copies of detached mounts and overlays over them, since 6.15.
func (a *apart) needed(lowers []Lower) bool {
	for _, lower := range lowers {
		if lower.Mount == nil {
			continue
		}
		a.asking.Lock()
		defer a.asking.Unlock()
		if a.asked || a.always {
			return a.always
		}
		fd, err := unix.OpenTree(int(lower.Mount.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if err == nil {
			unix.Close(fd)
		}
		a.always = errors.Is(err, unix.EINVAL)
		a.asked = err == nil || a.always // else another time: no more descriptors, for one
		return a.always
	}
	return false
}

// do calls f in the room, which is made when it is first needed.
func (a *apart) do(f func(*room) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errClosed
	}
	if a.room == nil {
		room, err := newRoom()
		if err != nil {
			return err
		}
		a.room = room
	}
	return a.room.do(func() error { return f(a.room) })
}

// release detaches a layer's mount.
func (a *apart) release(layer *os.File) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.room == nil {
		return nil
	}
	return a.room.do(func() error { return a.room.release(layer) })
}

// close ends the room. It may be called twice.
func (a *apart) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.room != nil {
		close(a.room.jobs)
		a.room = nil
	}
}
