package overlay

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/fscontext"
)

// addMapped is addLowers through the mapping of a user namespace: directories are opened below one mapped mount of the directory above
// them all, a mount has a mapped clone of its own.
func addMapped(fs *fscontext.Context, o Options) (held []*os.File, err error) {
	base, err := Lower{Path: o.Base}.clone(0, o.Users)
	if err != nil {
		return nil, err
	}
	held = append(held, base)
	for _, lower := range o.Lowers {
		if lower.Mount == nil {
			if err := addBelow(fs, base, o.Base, lower.Path); err != nil {
				return held, err
			}
			continue
		}
		mapped, err := lower.clone(0, o.Users)
		if err != nil {
			return held, err
		}
		held = append(held, mapped)
		if err := fs.File("lowerdir+", int(mapped.Fd()), lower.Path); err != nil {
			return held, err
		}
	}
	return held, nil
}

func addBelow(fs *fscontext.Context, base *os.File, above, path string) error {
	below, err := filepath.Rel(above, path)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(int(base.Fd()), below, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return fs.File("lowerdir+", fd, path)
}

// coverBase mounts a mapped copy over the directory above the layers, in the mount namespace of this thread: what is opened by path from
// now on is seen through the mapping.
func coverBase(o Options) error {
	base, err := Lower{Path: o.Base}.clone(0, o.Users)
	if err != nil {
		return err
	}
	defer base.Close()
	if err := unix.MoveMount(int(base.Fd()), "", unix.AT_FDCWD, o.Base, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount to %s: %w", o.Base, err)
	}
	return nil
}
