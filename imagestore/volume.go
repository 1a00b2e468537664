package imagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// VolumePath is the directory of a snapshot's volume of that number: where CopyVolume puts it.
func (sn *snapshotter) VolumePath(key string, number int) string {
	return filepath.Join(sn.snapshotDir(key), "volumes", strconv.Itoa(number))
}

// CopyVolume makes a directory beside the writable layer of a snapshot, with a copy of what the snapshot has at a path: owners, modes and
// extended attributes included. root is a mount of it; symlinks lead nowhere but into that. Where there is nothing at the path, the directory is
// empty and belongs to the owner of the root. It goes with the snapshot. Errors: ErrNotFound, ErrUnsupported when there is something other
// than a directory at the path.
func (sn *snapshotter) CopyVolume(key string, number int, root *os.File, path string) error {
	if err := sn.copyVolume(key, number, root, path); err != nil {
		return fmt.Errorf("copy volume %s of snapshot %s: %w", path, key, err)
	}
	return nil
}

func (sn *snapshotter) copyVolume(key string, number int, root *os.File, path string) error {
	if _, err := sn.snapshot(key); err != nil {
		return err
	}
	to := sn.VolumePath(key, number)
	if err := os.MkdirAll(filepath.Dir(to), 0o711); err != nil {
		return err
	}
	from, err := openInside(root, path)
	switch {
	case errors.Is(err, unix.ENOENT):
		return emptyVolume(to, root)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: it is not a directory", ErrUnsupported)
	case err != nil:
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(from)
	// Nobody else has the mount yet: what is below the directory stays as it is, and links are copied as links.
	return copyTree(to, fmt.Sprintf("/proc/self/fd/%d/.", from))
}

// openInside opens a directory of a mount.
func openInside(root *os.File, path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), path, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) { // the latter: a rename came between, openat2(2)
			return fd, err
		}
	}
}

func emptyVolume(dir string, root *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return fmt.Errorf("stat root: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, int(st.Uid), int(st.Gid))
}
