package layer

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// What Linux itself follows in one path (path_resolution(7)).
	maxLinks = 40
	// Directories kept open, so that a run of entries in one of them opens it once.
	maxOpen = 64
)

// directory is an open directory of the layer. Its path has no symlinks in it.
type directory struct {
	fd   int
	path string
}

// tree finds the directories of a layer by name, makes those that are missing, and keeps the last ones open.
type tree struct {
	at      string // the layer's directory on the host
	root    *directory
	open    map[string]*directory // by the name asked for
	stale   []int                 // no longer in open, and maybe in use by the present entry
	implied map[string]bool       // made without an entry, by real path
	made    int64                 // number of directories made so
}

func newTree(at string) (*tree, error) {
	fd, err := openRoot(at)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: at, Err: err}
	}
	return &tree{at: at, root: &directory{fd: fd}, open: map[string]*directory{}, implied: map[string]bool{}}, nil
}

func (t *tree) close() {
	t.forget()
	t.trim()
	unix.Close(t.root.fd)
}

// forget lets names be looked up anew: after something that may have been on their way was removed. What the present entry has
// stays open until trim.
func (t *tree) forget() {
	for _, d := range t.open {
		t.stale = append(t.stale, d.fd)
	}
	clear(t.open)
}

// trim bounds what is kept open. To be called between entries: directories that dir gave out may be closed afterwards.
func (t *tree) trim() {
	if len(t.open) > maxOpen {
		t.forget()
	}
	for _, fd := range t.stale {
		unix.Close(fd)
	}
	t.stale = t.stale[:0]
}

// dir opens the directory of that name, following the layer's own symlinks as if its root were "/". Missing ones are made when
// create is set, and are ENOENT otherwise. It stays the tree's.
func (t *tree) dir(name string, create bool) (*directory, error) {
	if name == "" {
		return t.root, nil
	}
	if d := t.open[name]; d != nil {
		return d, nil
	}
	up, base := path.Split(name)
	parent, err := t.dir(strings.TrimSuffix(up, "/"), create)
	if err != nil {
		return nil, err
	}
	real, err := t.step(parent.path, parent.fd, base, create)
	if err == errIsLink {
		links := maxLinks
		real, err = t.walk(parent.path, base, create, &links)
	}
	if err != nil {
		return nil, err
	}
	fd, err := openDir(t.root.fd, real)
	if err != nil {
		return nil, err
	}
	d := &directory{fd: fd, path: real}
	t.open[name] = d
	return d, nil
}

// errIsLink is step's answer where the name is a symlink.
var errIsLink = errors.New("is a symlink")

// step goes from a directory, open as fd, to the directory base in it.
func (t *tree) step(real string, fd int, base string, create bool) (string, error) {
	next := join(real, base)
	st, err := statAt(fd, base)
	switch {
	case err == unix.ENOENT && create:
		return next, t.makeImplied(fd, base, next)
	case err != nil:
		return "", err
	case fileType(&st) == unix.S_IFDIR:
		return next, nil
	case fileType(&st) == unix.S_IFLNK:
		return "", errIsLink
	case isWhiteout(&st) && create:
		return next, t.overWhiteout(fd, base)
	}
	return "", corrupt("%s isn't a directory", quoteName(next))
}

func (t *tree) makeImplied(fd int, base, real string) error {
	if err := unix.Mkdirat(fd, base, 0o755); err != nil {
		return err
	}
	t.implied[real] = true
	t.made++
	return nil
}

// overWhiteout makes a directory where this layer removed what the layers below have, so nothing of theirs is taken over.
func (t *tree) overWhiteout(fd int, base string) error {
	if err := unix.Unlinkat(fd, base, 0); err != nil {
		return err
	}
	if err := unix.Mkdirat(fd, base, 0o755); err != nil {
		return err
	}
	t.made++
	if err := unix.Fchmodat(fd, base, 0o755, 0); err != nil {
		return err
	}
	return t.setOpaque(fd, base)
}

// walk resolves name, which may be many components and symlinks, starting in the directory real. Every directory on the way is
// opened anew from the root by its real path, which has no symlinks.
func (t *tree) walk(real, name string, create bool, links *int) (string, error) {
	for component := range strings.SplitSeq(name, "/") {
		switch component {
		case "", ".":
			continue
		case "..":
			real = parentOf(real) // the root's parent is the root, as in a container
			continue
		}
		next, err := t.component(real, component, create, links)
		if err != nil {
			return "", err
		}
		real = next
	}
	return real, nil
}

func (t *tree) component(real, component string, create bool, links *int) (string, error) {
	if len(component) > unix.NAME_MAX {
		return "", corrupt("name of %d bytes", len(component))
	}
	fd, err := openDir(t.root.fd, real)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	next, err := t.step(real, fd, component, create)
	if err != errIsLink {
		return next, err
	}
	if *links--; *links < 0 {
		return "", corrupt("%s: too many symlinks", quoteName(join(real, component)))
	}
	target, err := readlinkAt(fd, component)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(target, "/") {
		real = ""
	}
	return t.walk(real, target, create, links)
}

func (t *tree) setOpaque(dir int, base string) error {
	fd, err := openDir(dir, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return setOpaque(fd)
}

// removeAll removes a directory and what is below.
func (t *tree) removeAll(real string) error {
	t.forget()
	for dir := range t.implied {
		if dir == real || strings.HasPrefix(dir, real+"/") {
			delete(t.implied, dir)
		}
	}
	root, err := os.OpenRoot(t.at)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(real)
}

func (t *tree) impliedDirs() []string {
	names := make([]string, 0, len(t.implied))
	for name := range t.implied {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}

func parentOf(real string) string {
	i := strings.LastIndexByte(real, '/')
	if i < 0 {
		return ""
	}
	return real[:i]
}

func quoteName(name string) string {
	if len(name) > 256 {
		name = name[:256] + "…"
	}
	return strconv.Quote(name)
}
