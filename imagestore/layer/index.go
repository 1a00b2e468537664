package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// errNoIndex: the layer is a good one, but no index can be made of it.
var errNoIndex = errors.New("no index can be made")

// indexer makes the tree of a layer's files in memory, of what a tar says of them. What a name means is as for an applier, whose twin it is.
type indexer struct {
	budget   *Budget
	room     *room
	progress func()

	root       *erofs.Inode
	opaqueRoot bool

	// lastName and last are the directory that the entry before was in.
	lastName string
	last     *erofs.Inode

	entries, bytes, held int64 // taken of budget and room
}

func newIndexer(budget *Budget, room *room, progress func()) *indexer {
	return &indexer{budget: budget, room: room, progress: progress, root: impliedDir(nil)}
}

// impliedDir is a directory that the tar has no entry for.
func impliedDir(parent *erofs.Inode) *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Parent: parent, Entries: map[string]*erofs.Inode{}, Late: true}
}

// close gives the tree's memory back. It may be called twice.
func (x *indexer) close() {
	x.room.left.Add(x.held)
	x.held, x.root, x.last = 0, nil, nil
}

// index reads a tar to its end mark. pos tells where in it the reader is.
func (x *indexer) index(r io.Reader, pos func() int64) error {
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError(err)
		}
		x.progress()
		if err := x.take(hdr); err != nil {
			return err
		}
		if err := x.entry(hdr, erofs.HeaderSize+pos()); err != nil {
			return entryError(hdr, err)
		}
	}
}

// entry makes one. start is where in the layer's file its content begins.
func (x *indexer) entry(hdr *tar.Header, start int64) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	if name == "" {
		if hdr.Typeflag != tar.TypeDir {
			return corrupt("the root must be a directory")
		}
		return markInode(x.root, hdr)
	}
	if isMeta(name) {
		return nil
	}
	dirName, base := path.Split(name)
	parent, err := x.dir(strings.TrimSuffix(dirName, "/"), true)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return x.whiteout(parent, base)
	}
	if len(base) > unix.NAME_MAX {
		return unix.ENAMETOOLONG
	}
	return x.create(parent, strings.Clone(base), hdr, start)
}

func (x *indexer) create(parent *erofs.Inode, base string, hdr *tar.Header, start int64) error {
	switch hdr.Typeflag {
	case tar.TypeDir:
		return x.makeDir(parent, base, hdr)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		if isSparse(hdr) {
			return fmt.Errorf("%w: sparse files aren't in the tar as they are read", errNoIndex)
		}
		return x.put(parent, base, hdr, &erofs.Inode{Mode: unix.S_IFREG, Size: hdr.Size, Start: start})
	case tar.TypeSymlink:
		if !goodTarget(hdr.Linkname) {
			return corrupt("symlink to %s", quoteName(hdr.Linkname))
		}
		return x.put(parent, base, hdr, &erofs.Inode{Mode: unix.S_IFLNK, Target: strings.Clone(hdr.Linkname)})
	case tar.TypeLink:
		return x.makeLink(parent, base, hdr)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind, dev, err := nodeOf(hdr)
		if err != nil {
			return err
		}
		return x.put(parent, base, hdr, &erofs.Inode{Mode: kind, Rdev: dev})
	}
	return corrupt("entry of unknown type %q", hdr.Typeflag)
}

// put makes an entry that is no directory, in place of what has the name.
func (x *indexer) put(parent *erofs.Inode, base string, hdr *tar.Header, in *erofs.Inode) error {
	if err := markInode(in, hdr); err != nil {
		return err
	}
	x.remove(parent, base)
	parent.Entries[base] = in
	return nil
}

// remove takes away what an earlier entry of the same tar made, if there is any.
func (x *indexer) remove(parent *erofs.Inode, base string) {
	if parent.Entries[base] != nil {
		delete(parent.Entries, base)
		x.last = nil // it may have been below, or reached through it
	}
}

func (x *indexer) makeDir(parent *erofs.Inode, base string, hdr *tar.Header) error {
	old := parent.Entries[base]
	if old != nil && old.IsDir() {
		return markInode(old, hdr)
	}
	dir := impliedDir(parent)
	if err := markInode(dir, hdr); err != nil {
		return err
	}
	if old != nil && old.IsWhiteout() { // what the layers below have of that name stays hidden
		hideBelow(dir)
	}
	x.remove(parent, base)
	parent.Entries[base] = dir
	return nil
}

// makeLink makes a second name of what the same tar brought.
func (x *indexer) makeLink(parent *erofs.Inode, base string, hdr *tar.Header) error {
	target, err := cleanName(hdr.Linkname)
	if err != nil || target == "" {
		return corrupt("hard link to %s", quoteName(hdr.Linkname))
	}
	dirName, targetBase := path.Split(target)
	from, err := x.dir(strings.TrimSuffix(dirName, "/"), false)
	if errors.Is(err, unix.ENOENT) {
		return corrupt("hard link to %s, which isn't in the layer", quoteName(target))
	}
	if err != nil {
		return err
	}
	if from == parent && targetBase == base {
		return corrupt("hard link to itself")
	}
	in := from.Entries[targetBase]
	if in == nil || in.IsDir() || isBelow(from, parent.Entries[base]) { // in what it takes the place of
		return corrupt("hard link to %s, which isn't a file of the layer", quoteName(target))
	}
	x.remove(parent, base)
	parent.Entries[base] = in
	return nil
}

// isBelow tells whether a directory is another, or below it. top may be anything, and nil.
func isBelow(dir, top *erofs.Inode) bool {
	for ; dir != nil && top != nil; dir = dir.Parent {
		if dir == top {
			return true
		}
	}
	return false
}

func (x *indexer) whiteout(parent *erofs.Inode, base string) error {
	if base == opaqueMarker {
		if parent == x.root {
			x.opaqueRoot = true
			return nil
		}
		hideBelow(parent)
		return nil
	}
	hidden, err := hiddenBy(base)
	if err != nil {
		return err
	}
	switch old := parent.Entries[hidden]; {
	case old == nil:
		parent.Entries[strings.Clone(hidden)] = &erofs.Inode{Mode: unix.S_IFCHR}
	case old.IsDir(): // of which the layers below don't show through any more
		old.Late = false
		hideBelow(old)
	}
	return nil
}

// dir finds the directory of that name, following the layer's own symlinks as if its root were "/". Missing ones are made when create is set,
// and are ENOENT otherwise.
func (x *indexer) dir(name string, create bool) (*erofs.Inode, error) {
	if x.last != nil && name == x.lastName {
		return x.last, nil
	}
	dir := x.root
	for component := range strings.SplitSeq(name, "/") {
		if component == "" {
			continue
		}
		links := maxLinks
		next, err := x.component(dir, component, create, &links)
		if err != nil {
			return nil, err
		}
		dir = next
	}
	x.lastName, x.last = strings.Clone(name), dir
	return dir, nil
}

// component goes from a directory to the one of that name in it.
func (x *indexer) component(dir *erofs.Inode, name string, create bool, links *int) (*erofs.Inode, error) {
	if len(name) > unix.NAME_MAX {
		return nil, corrupt("name of %d bytes", len(name))
	}
	next := dir.Entries[name]
	switch {
	case next == nil && !create:
		return nil, unix.ENOENT
	case next == nil || create && next.IsWhiteout():
		return x.makeImplied(dir, name, next != nil)
	case next.IsDir():
		return next, nil
	case next.Mode&unix.S_IFMT != unix.S_IFLNK:
		return nil, corrupt("%s isn't a directory", quoteName(name))
	}
	if *links--; *links < 0 {
		return nil, corrupt("%s: too many symlinks", quoteName(name))
	}
	return x.walk(dir, next.Target, create, links)
}

// walk resolves a symlink's target, starting where the symlink is.
func (x *indexer) walk(dir *erofs.Inode, target string, create bool, links *int) (*erofs.Inode, error) {
	if strings.HasPrefix(target, "/") {
		dir = x.root
	}
	for component := range strings.SplitSeq(target, "/") {
		switch component {
		case "", ".":
			continue
		case "..":
			if dir.Parent != nil { // the root's parent is the root, as in a container
				dir = dir.Parent
			}
			continue
		}
		next, err := x.component(dir, component, create, links)
		if err != nil {
			return nil, err
		}
		dir = next
	}
	return dir, nil
}

// makeImplied makes a missing directory. Over a whiteout nothing is taken over from the layers below.
func (x *indexer) makeImplied(parent *erofs.Inode, name string, over bool) (*erofs.Inode, error) {
	if err := x.hold(dirCost + int64(len(name))); err != nil {
		return nil, err
	}
	dir := impliedDir(parent)
	if over {
		dir.Late = false
		hideBelow(dir)
	}
	parent.Entries[strings.Clone(name)] = dir
	return dir, nil
}

var opaque = erofs.Xattr{Name: opaqueXattr, Value: "y"}

// hideBelow makes a directory opaque.
func hideBelow(dir *erofs.Inode) {
	if !hidesBelow(dir) {
		dir.Xattrs = append(dir.Xattrs, opaque)
	}
}

func hidesBelow(dir *erofs.Inode) bool {
	for _, x := range dir.Xattrs {
		if x == opaque {
			return true
		}
	}
	return false
}

// markInode gives an inode what its entry says of it. A directory's latest entry counts.
func markInode(in *erofs.Inode, hdr *tar.Header) error {
	if err := checkOwner(hdr); err != nil {
		return err
	}
	kind := in.Mode & unix.S_IFMT
	in.Mode = kind | uint32(hdr.Mode)&permBits
	if kind == unix.S_IFLNK {
		in.Mode = kind | 0o777
	}
	in.UID, in.GID, in.Late = uint32(hdr.Uid), uint32(hdr.Gid), false
	modified := timespec(hdr.ModTime)
	in.Seconds, in.Nanoseconds = modified.Sec, uint32(modified.Nsec)
	xattrs, err := xattrsOf(hdr, kind)
	if err != nil {
		return err
	}
	if hidesBelow(in) {
		xattrs = append(xattrs, opaque)
	}
	in.Xattrs = xattrs
	return nil
}

// xattrsOf: an attribute that no file system has is left out, as a directory's would be.
func xattrsOf(hdr *tar.Header, kind uint32) (xattrs []erofs.Xattr, err error) {
	err = eachXattr(hdr, func(name string, value []byte) error {
		switch {
		case strings.HasPrefix(name, "system."):
			return errNoIndex // ACLs, which the kernel must see first
		case !erofs.Holds(name), strings.HasPrefix(name, "user.") && kind != unix.S_IFREG && kind != unix.S_IFDIR:
			return nil
		}
		xattrs = append(xattrs, erofs.Xattr{Name: strings.Clone(name), Value: string(value)})
		return nil
	})
	slices.SortFunc(xattrs, func(a, b erofs.Xattr) int { return strings.Compare(a.Name, b.Name) }) // PAXRecords has no order
	return xattrs, err
}
