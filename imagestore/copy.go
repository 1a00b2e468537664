package imagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"
)

// copier copies a directory with all that is below it: owners, modes, times, extended attributes and hard links. Nobody else changes it meanwhile.
type copier struct {
	links map[fileID]string // where the first name of a file with several went
}

// fileID tells files apart in a container's root: layers that are file systems of their own have the same numbers of inodes.
type fileID struct{ device, inode uint64 }

// copyTree copies the directory from to a new one.
func copyTree(to, from string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return &os.PathError{Op: "stat", Path: from, Err: err}
	}
	c := copier{links: map[fileID]string{}}
	return c.dir(to, from, &st)
}

// dir gives the directory its metadata last: what is made in it changes its times.
func (c *copier) dir(to, from string, st *unix.Stat_t) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := c.entry(filepath.Join(to, entry.Name()), filepath.Join(from, entry.Name())); err != nil {
			return err
		}
	}
	return copyAttributes(to, from, st)
}

func (c *copier) entry(to, from string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.dir(to, from, &st)
	}
	if st.Nlink > 1 {
		id := fileID{uint64(st.Dev), st.Ino}
		if first, copied := c.links[id]; copied {
			return os.Link(first, to)
		}
		c.links[id] = to
	}
	if err := copyContent(to, from, kind, &st); err != nil {
		return err
	}
	return copyAttributes(to, from, &st)
}

// copyContent makes what is no directory.
func copyContent(to, from string, kind uint32, st *unix.Stat_t) error {
	switch kind {
	case unix.S_IFREG:
		return fs.CopyFile(to, from)
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	if err := unix.Mknod(to, kind|0o600, int(st.Rdev)); err != nil {
		return &os.PathError{Op: "mknod", Path: to, Err: err}
	}
	return nil
}

// copyAttributes: the owner first, whose change takes set-id bits and capabilities away; times last.
func copyAttributes(to, from string, st *unix.Stat_t) error {
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyExtended(to, from); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: to, Err: err}
		}
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: to, Err: err}
	}
	return nil
}

// copyExtended copies extended attributes, which are nobody else's to change: their sizes stay.
func copyExtended(to, from string) error {
	size, err := unix.Llistxattr(from, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil
	}
	names := make([]byte, size)
	if err == nil {
		size, err = unix.Llistxattr(from, names)
	}
	if err != nil {
		return &os.PathError{Op: "llistxattr", Path: from, Err: err}
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX (limits.h)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("copy attribute %s of %s: %w", name, from, err)
		}
	}
	return nil
}
