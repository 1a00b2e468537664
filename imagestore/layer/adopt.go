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
	own := newSight(dir)
	defer own.close()
	below := make([]*sight, len(lowers))
	for i, lower := range lowers {
		below[i] = newSight(lower)
		defer below[i].close()
	}
	for _, name := range implied {
		if err := adoptDir(own, name, below); err != nil {
			return fmt.Errorf("adopt directory %s: %w", quoteName(name), err)
		}
	}
	return nil
}

func adoptDir(own *sight, name string, lowers []*sight) error {
	to, err := own.open(name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if name != "" { // whether no directory above is opaque in this layer
		above, err := own.look(parentOf(name))
		if err != nil {
			return err
		}
		if !above.shows {
			lowers = nil
		}
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

// nearest opens the directory of that name as lowers show it together; -1 when they show none.
func nearest(name string, lowers []*sight) (int, error) {
	for _, lower := range lowers {
		seen, err := lower.look(name)
		if err != nil {
			return -1, err
		}
		if seen.there {
			return lower.open(name)
		}
		if !seen.shows {
			return -1, nil
		}
	}
	return -1, nil
}

// sight is what a layer shows, and lets be seen of those below. It remembers: a path may have thousands of directories, and each is asked for.
type sight struct {
	dir   string
	root  int // -1: not open yet
	known map[string]seen
}

// seen of a name. there: it is a directory. shows: what layers further down have of that name shows through, as no component is
// opaque or something else than a directory.
type seen struct{ there, shows bool }

func newSight(dir string) *sight {
	return &sight{dir: dir, root: -1, known: map[string]seen{"": {there: true, shows: true}}}
}

func (s *sight) close() {
	if s.root >= 0 {
		unix.Close(s.root)
	}
}

// open opens a directory. The caller closes it.
func (s *sight) open(name string) (int, error) {
	if s.root < 0 {
		root, err := openRoot(s.dir)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: s.dir, Err: err}
		}
		s.root = root
	}
	return openDir(s.root, name)
}

func (s *sight) look(name string) (seen, error) {
	if it, known := s.known[name]; known {
		return it, nil
	}
	it, err := s.look(parentOf(name))
	if err != nil {
		return seen{}, err
	}
	if it.there {
		if it, err = s.lookBelow(it, name); err != nil {
			return seen{}, err
		}
	}
	s.known[name] = it
	return it, nil
}

// lookBelow looks at what is in a directory that is there.
func (s *sight) lookBelow(parent seen, name string) (seen, error) {
	fd, err := s.open(name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return seen{shows: parent.shows}, nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return seen{}, nil
	case err != nil:
		return seen{}, err
	}
	defer unix.Close(fd)
	opaque, err := isOpaque(fd)
	return seen{there: true, shows: parent.shows && !opaque}, err
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

func copyXattrs(to, from int) error {
	names, err := xattrNames(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := readXattr(from, name)
		if err == nil {
			err = unix.Fsetxattr(to, name, value, 0)
		}
		if err != nil {
			return fmt.Errorf("copy attribute %s: %w", quoteName(name), err)
		}
	}
	return nil
}

// xattrNames lists a directory's extended attributes, without overlayfs's own marks, which say something of the layer and not of the directory.
func xattrNames(fd int) ([]string, error) {
	size, err := unix.Flistxattr(fd, nil)
	if err == unix.ENOTSUP || size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, size)
	if size, err = unix.Flistxattr(fd, list); err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, overlayMark) {
			names = append(names, name)
		}
	}
	return names, nil
}

func readXattr(fd int, name string) ([]byte, error) {
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX (limits.h)
	n, err := unix.Fgetxattr(fd, name, value)
	if err != nil {
		return nil, err
	}
	return value[:n], nil
}
