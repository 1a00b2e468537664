package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const capabilityXattr = "security.capability"

// WriteChanges writes what an overlay's upper directory holds as the tar of a layer: files, whiteouts, marks of opaque directories. Of extended attributes
// it takes capabilities. Others may write to the directory meanwhile: each entry is opened once, without following a symlink, and all that is
// said of it is asked of that descriptor, so that whatever names are swapped nothing outside of dir is read. Then what is gone is left out, and a
// file that got shorter is filled up by zeros. A name that a layer can't have, as it means a whiteout, is an error. WriteChanges needs CAP_SYS_ADMIN (trusted.*
// attributes), and ends with the cause of ctx.
func WriteChanges(ctx context.Context, dir string, w io.Writer) error {
	root, err := openRoot(dir)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	c := changes{ctx: ctx, out: tar.NewWriter(w), links: map[inode]string{}}
	if err := c.below(root, ""); err != nil {
		return err
	}
	return c.out.Close()
}

type changes struct {
	ctx   context.Context
	out   *tar.Writer
	links map[inode]string // the first name of files that have several
}

type inode struct{ dev, number uint64 }

// below writes what is in a directory, and closes it.
func (c *changes) below(fd int, path string) error {
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // removed meanwhile
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if err := c.entry(fd, name, join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *changes) entry(dir int, name, path string) error {
	if len(path) >= unix.PathMax {
		return &os.PathError{Op: "archive", Path: path[:100] + "…", Err: unix.ENAMETOOLONG}
	}
	fd, err := openBelow(dir, name, unix.O_PATH) // of a symlink: itself (openat2(2), RESOLVE_NO_SYMLINKS)
	if err == unix.ENOENT {
		return nil // removed meanwhile
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case isWhiteout(&st):
		return c.mark(strings.TrimSuffix(path, name) + whiteoutPrefix + name)
	case fileType(&st) == unix.S_IFSOCK: // there is no entry for them
		return nil
	case strings.HasPrefix(name, whiteoutPrefix):
		return fmt.Errorf("archive %s: in a layer that name means a whiteout", quoteName(path))
	}
	if err := c.file(fd, path, &st); err != nil {
		return fmt.Errorf("archive %s: %w", quoteName(path), err)
	}
	if fileType(&st) != unix.S_IFDIR {
		return nil
	}
	return c.directory(fd, path)
}

// directory writes what is in a directory whose own entry was written.
func (c *changes) directory(fd int, path string) error {
	sub, err := openDir(fd, "")
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	opaque, err := isOpaque(sub)
	if err == nil && opaque {
		err = c.mark(join(path, opaqueMarker))
	}
	if err != nil {
		unix.Close(sub)
		return &os.PathError{Op: "archive", Path: path, Err: err}
	}
	return c.below(sub, path)
}

// mark writes an empty file that says something by its name.
func (c *changes) mark(name string) error {
	return c.out.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, ModTime: time.Unix(0, 0)})
}

// file writes an entry. fd was opened with O_PATH.
func (c *changes) file(fd int, path string, st *unix.Stat_t) error {
	hdr := &tar.Header{Format: tar.FormatPAX, Name: path, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Unix())}
	if err := describe(hdr, fd, st); err != nil {
		return err
	}
	if st.Nlink > 1 && hdr.Typeflag != tar.TypeDir {
		self := inode{st.Dev, st.Ino}
		if first := c.links[self]; first != "" {
			hdr.Typeflag, hdr.Linkname, hdr.Size, hdr.PAXRecords = tar.TypeLink, first, 0, nil
			return c.out.WriteHeader(hdr)
		}
		c.links[self] = path
	}
	if err := c.out.WriteHeader(hdr); err != nil || hdr.Size == 0 {
		return err
	}
	return c.content(fd, hdr.Size)
}

// describe fills in what depends on the type.
func describe(hdr *tar.Header, fd int, st *unix.Stat_t) (err error) {
	switch fileType(st) {
	case unix.S_IFDIR:
		hdr.Typeflag = tar.TypeDir
		hdr.Name += "/"
	case unix.S_IFLNK:
		hdr.Typeflag = tar.TypeSymlink
		hdr.Linkname, err = readlinkAt(fd, "")
		return err
	case unix.S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeBlock
		if fileType(st) == unix.S_IFCHR {
			hdr.Typeflag = tar.TypeChar
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	value := make([]byte, 64) // a vfs_ns_cap_data has 24 bytes
	n, err := unix.Getxattr(descriptorPath(fd), capabilityXattr, value)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return nil
	case err != nil:
		return fmt.Errorf("read its capabilities: %w", err)
	}
	hdr.PAXRecords = map[string]string{paxXattr + capabilityXattr: string(value[:n])}
	return nil
}

// content writes a regular file's, as long as it was when its header was written.
func (c *changes) content(fd int, size int64) error {
	file, err := os.Open(descriptorPath(fd)) // the same file, whatever has its name now
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := io.Copy(c.out, io.LimitReader(endingWith{c.ctx, file}, size))
	if err == nil && n < size {
		_, err = io.CopyN(c.out, padding{}, size-n)
	}
	return err
}

// descriptorPath is a link to what a descriptor refers to (proc_pid_fd(5)), for calls that don't take one that was opened with O_PATH.
func descriptorPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// endingWith reads until a context ends.
type endingWith struct {
	ctx context.Context
	r   io.Reader
}

func (e endingWith) Read(p []byte) (int, error) {
	if e.ctx.Err() != nil {
		return 0, context.Cause(e.ctx)
	}
	return e.r.Read(p)
}

// padding is zeros without an end.
type padding struct{}

func (padding) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
