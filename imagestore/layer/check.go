package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/fault"
)

// Check tells whether the layer in dir still is what it was unpacked from: the tar made of its files and the origin must have the diff-ID, and
// each entry the type, mode and owner that the tar says. The error is ErrCorrupt when it isn't. Times and extended attributes are not
// looked at.
func Check(ctx context.Context, dir string, origin io.Reader, diffID digest.Digest) error {
	root, err := openRoot(dir)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	r, w := io.Pipe()
	sum := sha256.New()
	assembled := make(chan error, 1)
	go func() { // ends with its pipe's reader
		err := fault.Guard(func() error { return Assemble(ctx, dir, origin, io.MultiWriter(sum, w)) })
		w.CloseWithError(err)
		assembled <- err
	}()
	c := checker{root: root, dirs: map[string]*tar.Header{}}
	err = c.entries(tar.NewReader(r))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	r.CloseWithError(err)
	if assembleErr := <-assembled; assembleErr != nil && !errors.Is(assembleErr, io.ErrClosedPipe) {
		return assembleErr
	}
	if err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, sum); got != diffID {
		return corrupt("its files make %s", got)
	}
	return nil
}

type checker struct {
	root int
	dirs map[string]*tar.Header // the latest entry counts
}

func (c *checker) entries(tr *tar.Reader) error {
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return readError(err)
		}
		name, err := cleanName(hdr.Name)
		if err != nil || name == "" || strings.HasPrefix(path.Base(name), whiteoutPrefix) || isMeta(name) || hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if hdr.Typeflag == tar.TypeDir {
			c.dirs[name] = hdr
			continue
		}
		if err := c.entry(name, hdr); err != nil {
			return err
		}
	}
	for name, hdr := range c.dirs {
		if err := c.entry(name, hdr); err != nil {
			return err
		}
	}
	return nil
}

// entry compares one. Its parent may be reached through symlinks of the layer, as when it was made.
func (c *checker) entry(name string, hdr *tar.Header) error {
	parent, base := path.Split(name)
	if parent == "" {
		parent = "."
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	var dir int
	err := again(func() (err error) {
		dir, err = unix.Openat2(c.root, parent, &how)
		return err
	})
	if err != nil {
		return corrupt("%s: %w", quoteName(name), err)
	}
	defer unix.Close(dir)
	st, err := statAt(dir, base)
	if err != nil {
		return corrupt("%s: %w", quoteName(name), err)
	}
	if hdr.Typeflag == tar.TypeDir && fileType(&st) == unix.S_IFLNK {
		return nil // an entry of a directory's name over a symlink to one
	}
	if hdr.Typeflag == tar.TypeChar && hdr.Devmajor == 0 && hdr.Devminor == 0 && fileType(&st) == unix.S_IFDIR {
		return nil // a whiteout that a directory took the place of
	}
	want := map[byte]uint32{tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK,
		tar.TypeFifo: unix.S_IFIFO, tar.TypeReg: unix.S_IFREG, tar.TypeCont: unix.S_IFREG, tar.TypeGNUSparse: unix.S_IFREG}[hdr.Typeflag]
	switch {
	case want == 0: // a hard link: its file has an entry of its own
		return nil
	case fileType(&st) != want:
		return corrupt("%s: it is of another type", quoteName(name))
	case want != unix.S_IFLNK && st.Mode&permBits != uint32(hdr.Mode)&permBits:
		return corrupt("%s: its mode is %o, and was %o", quoteName(name), st.Mode&permBits, uint32(hdr.Mode)&permBits)
	case int(st.Uid) != hdr.Uid || int(st.Gid) != hdr.Gid:
		return corrupt("%s: its owner is %d:%d, and was %d:%d", quoteName(name), st.Uid, st.Gid, hdr.Uid, hdr.Gid)
	}
	return nil
}
