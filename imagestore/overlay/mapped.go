package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// clone makes a detached mount of a directory, with these attributes and, unless users is nil, the mapping of that user namespace.
func clone(dir string, attributes uint64, users *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open_tree %s: %w", dir, err)
	}
	attr := unix.MountAttr{Attr_set: attributes}
	if users != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(users.Fd())
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		if users != nil && errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w (the file system or kernel has no idmapped mounts: ext4 has them since Linux 5.12, xfs 5.12, btrfs 5.15, tmpfs 6.3)", err)
		}
		return nil, fmt.Errorf("mount_setattr %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// addMapped gives an overlay its lowers below base, a mapped mount of the directory above them. It is needed until the overlay is
// created, which makes private copies of it.
func addMapped(fs int, base *os.File, o Options) error {
	for _, lower := range o.Lowers {
		below, err := filepath.Rel(o.Base, lower)
		if err != nil {
			return err
		}
		fd, err := unix.Openat(int(base.Fd()), below, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: lower, Err: err}
		}
		err = unix.FsconfigSetFd(fs, "lowerdir+", fd)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("set lowerdir+ to %s: %w", lower, explain(fs, err))
		}
	}
	return nil
}

// coverBase mounts a mapped copy over the directory above the layers, in the mount namespace of this thread: what is opened by path from
// now on is seen through the mapping.
func coverBase(o Options) error {
	base, err := clone(o.Base, 0, o.Users)
	if err != nil {
		return err
	}
	defer base.Close()
	if err := unix.MoveMount(int(base.Fd()), "", unix.AT_FDCWD, o.Base, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount to %s: %w", o.Base, err)
	}
	return nil
}
