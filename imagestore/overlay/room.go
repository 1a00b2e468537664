package overlay

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/fault"
)

// room is a mount namespace in which layers that are mounts are attached, with a thread that stays there: before Linux 6.15 overlayfs and
// open_tree(2) take only what is attached where the caller is (fs/namespace.c, check_mnt). It has nothing else, so that nothing of the node is kept
// from being unmounted, and is made once, as the copy that it begins as grows with the node's mounts. It goes with its thread.
type room struct {
	jobs chan func()
	// layers are where those are that are attached, until they are detached. It is the thread's.
	layers map[*os.File]string
	last   int
}

// newRoom needs CAP_SYS_ADMIN. Whoever has it ends it by closing jobs.
func newRoom() (*room, error) {
	r := &room{jobs: make(chan func()), layers: map[*os.File]string{}}
	begun := make(chan error)
	go r.stay(begun)
	if err := <-begun; err != nil {
		return nil, fmt.Errorf("make mount namespace: %w", err)
	}
	return r, nil
}

// stay does the jobs in a thread that ends with them.
func (r *room) stay(begun chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread never ends, and is what /proc/self shows: while this goroutine occupies it, the next gets another.
		next := make(chan error)
		go r.stay(next)
		begun <- <-next
		runtime.UnlockOSThread()
		return
	}
	// Never unlocked: the thread ends with the goroutine, and the namespace with the thread.
	err := enterEmpty()
	begun <- err
	if err != nil {
		return
	}
	for job := range r.jobs {
		job()
	}
}

// do runs f in the room.
func (r *room) do(f func() error) error {
	done := make(chan error)
	r.jobs <- func() { done <- fault.Guard(f) }
	return <-done
}

// enterEmpty gives this thread a mount namespace that has an empty tmpfs and nothing else.
func enterEmpty() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// /proc is a mount that every node has; nobody else sees what covers it.
	const at = "/proc"
	if err := unix.Mount("berth", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := unix.Chdir(at); err != nil {
		return fmt.Errorf("change directory: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil { // pivot_root(2), `pivot_root(".", ".")`
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of other mounts: %w", err)
	}
	return nil
}

// attach puts a detached mount into the room, and returns its path there. All that follow are for the room's thread only.
func (r *room) attach(mount *os.File) (at string, err error) {
	// Else what detach unmounts would be unmounted in the peers of a shared mount too (mount_namespaces(7)).
	private := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(int(mount.Fd()), "", unix.AT_EMPTY_PATH, &private); err != nil {
		return "", fmt.Errorf("make private: %w", err)
	}
	r.last++
	at = "/" + strconv.Itoa(r.last)
	if err := os.Mkdir(at, 0o700); err != nil {
		return "", err
	}
	if err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", errors.Join(fmt.Errorf("move_mount: %w", err), os.Remove(at))
	}
	return at, nil
}

func (r *room) detach(at string) error {
	if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return os.Remove(at)
}

// layer is a layer that is a mount as what it is in the room, where it stays until it is released.
func (r *room) layer(lower Lower) (Lower, error) {
	at, ok := r.layers[lower.Mount]
	if !ok {
		var err error
		if at, err = r.attach(lower.Mount); err != nil {
			return Lower{}, fmt.Errorf("attach layer %s: %w", lower.Path, err)
		}
		r.layers[lower.Mount] = at
	}
	return Lower{Path: at}, nil
}

func (r *room) release(layer *os.File) error {
	at, ok := r.layers[layer]
	if !ok {
		return nil
	}
	delete(r.layers, layer)
	return r.detach(at)
}

// bind is Lower.clone of a layer that is a mount.
func (r *room) bind(lower Lower, attributes uint64, users *os.File) (*os.File, error) {
	inside, err := r.layer(lower)
	if err != nil {
		return nil, err
	}
	file, err := inside.clone(attributes, users)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", lower.Path, err)
	}
	return file, nil
}
