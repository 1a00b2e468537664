package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewShared returns a new instance of a kernel file system that Clone copies any number of times. Where the
// kernel copies detached mounts (Linux 6.15) it is one, as New makes it. Before, only what is attached in the
// caller's mount namespace can be copied (fs/namespace.c, check_mnt): there it is a mount namespace of its own
// that has nothing but this mount, as its root. It needs CAP_SYS_ADMIN. The caller closes the file.
func NewShared(fstype string, options []string) (*os.File, error) {
	f, err := New(fstype, options)
	if err != nil {
		return nil, err
	}
	fd, err := copyTree(int(f.Fd()), "", unix.AT_EMPTY_PATH)
	if err == nil {
		unix.Close(fd)
		return f, nil
	}
	defer f.Close()
	if !errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("copy new %s: %w", fstype, err)
	}
	space, err := enclose(f)
	if err != nil {
		return nil, fmt.Errorf("enclose new %s: %w", fstype, err)
	}
	return space, nil
}

// copyTree copies one mount, detached.
func copyTree(dir int, path string, flags uint) (int, error) {
	return retry(func() (int, error) {
		return unix.OpenTree(dir, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	})
}

// enclose makes a mount namespace whose only mount is root, and uses that up.
func enclose(root *os.File) (space *os.File, err error) {
	inThread(func() { space, err = encloseHere(root) })
	return space, err
}

func encloseHere(root *os.File) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	// /proc is a mount that every node has; nobody else sees what covers it.
	const at = "/proc"
	space, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("open mount namespace: %w", err)
	}
	if err := attachRoot(root, at); err != nil {
		space.Close()
		return nil, err
	}
	return space, nil
}

// attachRoot makes a detached mount the root of the thread's mount namespace and lets go of all others, which
// would else be kept from being unmounted elsewhere (pivot_root(2), `pivot_root(".", ".")`).
func attachRoot(root *os.File, at string) error {
	if err := unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	if err := unix.Chdir(at); err != nil {
		return fmt.Errorf("change directory: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of other mounts: %w", err)
	}
	return nil
}

// isSpace says whether a file of NewShared's is a mount namespace (ioctl_nsfs(2)).
func isSpace(f *os.File) bool {
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	return err == nil && kind == unix.CLONE_NEWNS
}

// copyRoot copies the root of a mount namespace, detached.
func copyRoot(space *os.File) (fd int, err error) {
	inThread(func() {
		if err = unix.Unshare(unix.CLONE_FS); err != nil { // setns(2): EINVAL for a thread that shares it
			err = fmt.Errorf("unshare: %w", err)
			return
		}
		if err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNS); err != nil {
			err = fmt.Errorf("enter mount namespace: %w", err)
			return
		}
		fd, err = copyTree(unix.AT_FDCWD, "/", 0)
	})
	return fd, err
}
