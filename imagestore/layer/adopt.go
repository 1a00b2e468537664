package layer

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Adopt gives the directories implied of the layer in dir the mode, owner, times and extended attributes that a container would see
// without this layer: those of the nearest of lowers (the nearest first, all of them adopted) that has the directory, 0755 and root's where none has. It
// may be called twice.
func Adopt(dir string, implied, lowers []string) error {
	if len(implied) == 0 {
		return nil
	}
	root, err := openRoot(dir)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	for _, name := range implied {
		if err := adoptDir(root, name, lowers); err != nil {
			return fmt.Errorf("adopt directory %s: %w", quoteName(name), err)
		}
	}
	return nil
}

func adoptDir(root int, name string, lowers []string) error {
	to, err := openDir(root, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	shows, err := showsThrough(root, name)
	if err != nil {
		return err
	}
	if !shows {
		lowers = nil
	}
	from, err := nearest(name, lowers)
	if err != nil {
		return err
	}
	if from < 0 {
		return unix.Fchmod(to, 0o755)
	}
	defer unix.Close(from)
	return copyMetadata(to, from)
}

// showsThrough tells whether no directory above name is opaque in this layer.
func showsThrough(root int, name string) (bool, error) {
	if name == "" {
		return true, nil
	}
	fd, shows, err := descend(root, parentOf(name))
	if fd >= 0 {
		unix.Close(fd)
	}
	return shows, err
}

// nearest opens the directory of that name as lowers show it together; -1 when they show none.
func nearest(name string, lowers []string) (int, error) {
	for _, lower := range lowers {
		root, err := openRoot(lower)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: lower, Err: err}
		}
		fd, shows, err := descend(root, name)
		unix.Close(root)
		if err != nil || fd >= 0 || !shows {
			return fd, err
		}
	}
	return -1, nil
}

// descend opens the directory name below root, -1 when it isn't there. shows tells whether what layers further down have of that name
// shows through: no component is opaque or something else than a directory. The caller closes the descriptor.
func descend(root int, name string) (fd int, shows bool, err error) {
	fd, err = openDir(root, "")
	if err != nil || name == "" {
		return fd, true, err
	}
	shows = true
	for component := range strings.SplitSeq(name, "/") {
		next, err := openDir(fd, component)
		unix.Close(fd)
		switch {
		case errors.Is(err, unix.ENOENT):
			return -1, shows, nil
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return -1, false, nil
		case err != nil:
			return -1, false, err
		}
		fd = next
		opaque, err := isOpaque(fd)
		if err != nil {
			unix.Close(fd)
			return -1, false, err
		}
		shows = shows && !opaque
	}
	return fd, shows, nil
}

func copyMetadata(to, from int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyXattrs(to, from); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&permBits); err != nil {
		return err
	}
	return setTimespecs(to, [2]unix.Timespec{st.Atim, st.Mtim})
}

// copyXattrs leaves out overlayfs's own marks, which say something of the layer and not of the directory.
func copyXattrs(to, from int) error {
	size, err := unix.Flistxattr(from, nil)
	if err == unix.ENOTSUP || size == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	names := make([]byte, size)
	if size, err = unix.Flistxattr(from, names); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		if strings.HasPrefix(name, overlayMark) {
			continue
		}
		if err := copyXattr(to, from, name); err != nil {
			return fmt.Errorf("copy attribute %s: %w", quoteName(name), err)
		}
	}
	return nil
}

func copyXattr(to, from int, name string) error {
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX (limits.h)
	n, err := unix.Fgetxattr(from, name, value)
	if err != nil {
		return err
	}
	return unix.Fsetxattr(to, name, value[:n], 0)
}
