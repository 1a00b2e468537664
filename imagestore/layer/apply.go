package layer

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// diskBlock is the unit in which sizes are counted: the block size of the file systems that nodes use.
const diskBlock = 4096

// applier makes the entries of one tar below one directory.
type applier struct {
	tree     *tree
	budget   *Budget
	progress func()
	buf      []byte
	origin   *originWriter

	// dirs are the directories that had an entry, by their real path, with their latest entry. Their owner, mode and times are set
	// last: while files are made below them they stay 0700, without set-group-ID, so that nothing is inherited, and making a file
	// changes a directory's time.
	dirs map[string]*tar.Header

	bytes, inodes int64
	opaqueRoot    bool
}

func newApplier(dir string, budget *Budget, progress func()) (*applier, error) {
	t, err := newTree(dir)
	if err != nil {
		return nil, err
	}
	return &applier{tree: t, budget: budget, progress: progress, buf: make([]byte, 256<<10), origin: &originWriter{}, dirs: map[string]*tar.Header{},
		bytes: diskBlock, inodes: 1}, nil
}

func (a *applier) close() { a.tree.close() }

// apply makes every entry that r has. It stops at the tar's end mark, or at the first error.
func (a *applier) apply(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	for ctx.Err() == nil {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError(err)
		}
		a.progress()
		if err := a.budget.takeEntry(hdr.Size); err != nil {
			return err
		}
		if err := a.entry(hdr, tr); err != nil {
			return entryError(hdr, err)
		}
	}
	return context.Cause(ctx)
}

// readError tells a bad tar from a stream that ended with an error of its own.
func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("read tar: %w", err)
	}
	return err
}

func entryError(hdr *tar.Header, err error) error {
	name := hdr.Name
	if len(name) > 256 {
		name = name[:256] + "…"
	}
	// Errors of the stream (a wrong digest, a lost connection) come out of whatever entry is read: the entry isn't their cause.
	var stream streamError
	if errors.As(err, &stream) {
		return readError(stream.error)
	}
	if errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP) {
		err = corruptError{err}
	}
	return &EntryError{Name: name, Err: err}
}

// EntryError says which entry of the tar couldn't be made.
type EntryError struct {
	Name string
	Err  error
}

func (e *EntryError) Error() string { return "unpack " + quoteName(e.Name) + ": " + e.Err.Error() }
func (e *EntryError) Unwrap() error { return e.Err }

// streamError marks an error of reading the tar, below the making of a file.
type streamError struct{ error }

func (e streamError) Unwrap() error { return e.error }

func (a *applier) entry(hdr *tar.Header, content io.Reader) error {
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
		return a.markDir("", hdr)
	}
	if isMeta(name) {
		return nil
	}
	dirName, base := path.Split(name)
	a.tree.trim()
	parent, err := a.tree.dir(strings.TrimSuffix(dirName, "/"), true)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return a.whiteout(parent, base)
	}
	return a.create(parent, base, hdr, content)
}

// cleanName gives the name as a path from the layer's root; "" is the root itself.
func cleanName(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", corrupt("name with a zero byte")
	}
	if len(name) >= unix.PathMax {
		return "", corrupt("name of %d bytes", len(name))
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", corrupt("name climbs out of the layer")
	}
	if clean == "." {
		return "", nil
	}
	return clean, nil
}

func (a *applier) create(parent *directory, base string, hdr *tar.Header, content io.Reader) error {
	switch hdr.Typeflag {
	case tar.TypeDir:
		return a.makeDir(parent, base, hdr)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return a.makeFile(parent, base, hdr, content)
	case tar.TypeSymlink:
		return a.makeSymlink(parent, base, hdr)
	case tar.TypeLink:
		return a.makeLink(parent, base, hdr)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return a.makeNode(parent, base, hdr)
	}
	return corrupt("entry of unknown type %q", hdr.Typeflag)
}

// place calls make, which must fail with EEXIST when the name is taken, and again after what has the name was removed.
func (a *applier) place(parent *directory, base string, make func() error) error {
	err := again(make)
	if err != unix.EEXIST {
		return err
	}
	st, err := statAt(parent.fd, base)
	if err != nil {
		return err
	}
	if err := a.remove(parent, base, &st); err != nil {
		return err
	}
	return again(make)
}

// remove takes away what an earlier entry of the same tar made.
func (a *applier) remove(parent *directory, base string, st *unix.Stat_t) error {
	a.origin.lost = true // maybe; it is rare
	if fileType(st) != unix.S_IFDIR {
		if fileType(st) == unix.S_IFLNK {
			a.tree.forget() // directories may have been reached through it
		}
		return unix.Unlinkat(parent.fd, base, 0)
	}
	gone := join(parent.path, base)
	for dir := range a.dirs {
		if dir == gone || strings.HasPrefix(dir, gone+"/") {
			delete(a.dirs, dir)
		}
	}
	return a.tree.removeAll(gone)
}

func (a *applier) makeDir(parent *directory, base string, hdr *tar.Header) error {
	err := again(func() error { return unix.Mkdirat(parent.fd, base, 0o700) })
	if err == unix.EEXIST {
		st, err := statAt(parent.fd, base)
		if err != nil {
			return err
		}
		if fileType(&st) == unix.S_IFDIR {
			return a.markDir(join(parent.path, base), hdr)
		}
		if err := a.replaceByDir(parent, base, &st); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	a.count(diskBlock)
	return a.markDir(join(parent.path, base), hdr)
}

// replaceByDir: where a whiteout was, what the layers below have of that name stays hidden.
func (a *applier) replaceByDir(parent *directory, base string, st *unix.Stat_t) error {
	if err := a.remove(parent, base, st); err != nil {
		return err
	}
	if err := unix.Mkdirat(parent.fd, base, 0o700); err != nil {
		return err
	}
	if !isWhiteout(st) {
		return nil
	}
	return a.tree.setOpaque(parent.fd, base)
}

func (a *applier) markDir(real string, hdr *tar.Header) error {
	if err := checkOwner(hdr); err != nil {
		return err
	}
	a.dirs[real] = hdr
	delete(a.tree.implied, real)
	return nil
}

func (a *applier) makeSymlink(parent *directory, base string, hdr *tar.Header) error {
	if !goodTarget(hdr.Linkname) {
		return corrupt("symlink to %s", quoteName(hdr.Linkname))
	}
	err := a.place(parent, base, func() error { return unix.Symlinkat(hdr.Linkname, parent.fd, base) })
	if err != nil {
		return err
	}
	a.count(0)
	return setMetadata(parent.fd, base, hdr)
}

// goodTarget tells whether a symlink can say that.
func goodTarget(target string) bool {
	return target != "" && len(target) < unix.PathMax && strings.IndexByte(target, 0) < 0
}

// makeLink makes a second name of what the same tar brought. The inode keeps its metadata: it has them from its own entry.
func (a *applier) makeLink(parent *directory, base string, hdr *tar.Header) error {
	target, err := cleanName(hdr.Linkname)
	if err != nil || target == "" {
		return corrupt("hard link to %s", quoteName(hdr.Linkname))
	}
	dirName, targetBase := path.Split(target)
	from, err := a.tree.dir(strings.TrimSuffix(dirName, "/"), false)
	if errors.Is(err, unix.ENOENT) {
		return corrupt("hard link to %s, which isn't in the layer", quoteName(target))
	}
	if err != nil {
		return err
	}
	if join(from.path, targetBase) == join(parent.path, base) {
		return corrupt("hard link to itself")
	}
	err = a.place(parent, base, func() error { return unix.Linkat(from.fd, targetBase, parent.fd, base, 0) })
	if err == unix.ENOENT || err == unix.EPERM {
		return corrupt("hard link to %s, which isn't a file of the layer", quoteName(target))
	}
	return err
}

func (a *applier) makeNode(parent *directory, base string, hdr *tar.Header) error {
	kind, dev, err := nodeOf(hdr)
	if err != nil {
		return err
	}
	err = a.place(parent, base, func() error { return unix.Mknodat(parent.fd, base, kind|0o600, int(dev)) })
	if err != nil {
		return err
	}
	a.count(0)
	return setMetadata(parent.fd, base, hdr)
}

// nodeOf is the type and number of a device or pipe.
func nodeOf(hdr *tar.Header) (kind uint32, dev uint64, err error) {
	kind = map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[hdr.Typeflag]
	// Linux knows 12 bits of major and 20 of minor numbers (makedev(3)).
	if hdr.Devmajor < 0 || hdr.Devmajor >= 1<<12 || hdr.Devminor < 0 || hdr.Devminor >= 1<<20 {
		return 0, 0, corrupt("device number %d:%d", hdr.Devmajor, hdr.Devminor)
	}
	if kind != unix.S_IFIFO {
		dev = unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
	}
	return kind, dev, nil
}

func (a *applier) count(bytes int64) {
	a.bytes += (bytes + diskBlock - 1) / diskBlock * diskBlock
	a.inodes++
}

// finish sets what directories must get last.
func (a *applier) finish() (Unpacked, error) {
	for real, hdr := range a.dirs {
		fd, err := openDir(a.tree.root.fd, real)
		if err != nil {
			return Unpacked{}, entryError(hdr, err)
		}
		err = setOpenMetadata(fd, hdr)
		unix.Close(fd)
		if err != nil {
			return Unpacked{}, entryError(hdr, err)
		}
	}
	implied := a.tree.impliedDirs()
	if _, named := a.dirs[""]; !named {
		implied = append(implied, "")
	}
	a.bytes += a.tree.made * diskBlock
	return Unpacked{Bytes: a.bytes, Inodes: a.inodes + a.tree.made, Implied: implied, OpaqueRoot: a.opaqueRoot}, nil
}
