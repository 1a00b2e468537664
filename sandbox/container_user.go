package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// resolveUser finds who a container runs as, in its own passwd and group files.
func resolveUser(root *os.File, config *spec.Container, imageUser string) (*spec.User, error) {
	var in [2]io.Reader
	for i, name := range []string{"etc/passwd", "etc/group"} {
		f, err := openInRoot(root, name)
		if err != nil {
			return nil, err
		}
		if f != nil {
			defer f.Close()
			in[i] = f
		}
	}
	user, err := spec.ResolveUser(in[0], in[1], &config.Security, imageUser)
	if err != nil {
		return nil, err
	}
	return &user, nil
}

// openInRoot opens a regular file of an image, whose symlinks lead nowhere but
// into the image; nil when it has none.
func openInRoot(root *os.File, name string) (*os.File, error) {
	// First without opening: an image may have a FIFO there, or a device.
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := openat2(int(root.Fd()), name, &how)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s in the image: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("open %s in the image: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("open %s in the image: %w", name, err)
	}
	return f, nil
}

// openat2 tries again when a signal or a rename came between (openat2(2): EAGAIN
// is transient).
func openat2(dir int, path string, how *unix.OpenHow) (int, error) {
	for range 100 {
		fd, err := unix.Openat2(dir, path, how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}
