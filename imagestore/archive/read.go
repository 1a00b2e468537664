package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/berth-runtime/berth/imagestore/layer"
)

const (
	// maxFiles bounds the files of an archive: 3 a layer, and as many images as anybody saves at once.
	maxFiles = 100_000
	// maxDocument bounds what is read as JSON.
	maxDocument = 8 << 20
	// maxLinks bounds links to links.
	maxLinks = 8
)

var (
	// ErrNotArchive: the stream is no tar file, compressed or not, or one of something else.
	ErrNotArchive = errors.New("not an image archive")
	// ErrCorrupt: it lacks a part, or one isn't what another says of it.
	ErrCorrupt = errors.New("archive is corrupt")
	// ErrTooLarge: the limit of Read.
	ErrTooLarge = errors.New("archive is too large")
)

// Archive is an image archive whose content is in a spool file.
type Archive struct {
	spool *os.File
	files map[string]extent
	links map[string]string
}

// extent is a part of the spool.
type extent struct{ offset, size int64 }

// Read copies the files of the archive to spool, which stays the caller's and must be open as long as the Archive is in use. No more than
// limit bytes are taken, and no zstd window of more than window bytes. When ctx ends, Read ends after the present block, if r does.
func Read(ctx context.Context, r io.Reader, spool *os.File, limit, window int64) (*Archive, error) {
	plain, err := layer.Decompress(ctx, stoppable{ctx, r}, "", window, nil)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", asCorrupt(err))
	}
	defer plain.Close()
	a := &Archive{spool: spool, files: map[string]extent{}, links: map[string]string{}}
	if err := a.fill(tar.NewReader(plain), limit); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return a, nil
}

func (a *Archive) fill(tr *tar.Reader, limit int64) error {
	var end int64
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)) && len(a.files)+len(a.links) == 0 {
			return fmt.Errorf("%w: it is no tar file", ErrNotArchive)
		}
		if err != nil {
			return asCorrupt(err)
		}
		if len(a.files)+len(a.links) >= maxFiles {
			return fmt.Errorf("%w: more than %d files", ErrTooLarge, maxFiles)
		}
		name := path.Clean("/" + hdr.Name)[1:]
		switch hdr.Typeflag {
		case tar.TypeReg:
			if hdr.Size > limit-end {
				return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
			}
			n, err := io.Copy(a.spool, tr)
			if err != nil {
				return fmt.Errorf("spool %q: %w", name, asCorrupt(err))
			}
			a.files[name] = extent{end, n}
			end += n
		case tar.TypeSymlink: // old docker archives have layers that images share once
			a.links[name] = path.Join("/", path.Dir(name), hdr.Linkname)[1:]
		case tar.TypeLink:
			a.links[name] = path.Clean("/" + hdr.Linkname)[1:]
		}
	}
}

// asCorrupt marks what is wrong with the stream. Errors of the reader below it and of the spool keep their own kind.
func asCorrupt(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, layer.ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// open gives a file's content.
func (a *Archive) open(name string) (*io.SectionReader, error) {
	asked := name
	for range maxLinks {
		if e, found := a.files[name]; found {
			return io.NewSectionReader(a.spool, e.offset, e.size), nil
		}
		target, found := a.links[name]
		if !found {
			break
		}
		name = target
	}
	return nil, fmt.Errorf("%w: it has no file %q", ErrCorrupt, asked)
}

func (a *Archive) has(name string) bool {
	_, file := a.files[name]
	return file
}

func (a *Archive) document(name string) ([]byte, error) {
	content, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if content.Size() > maxDocument {
		return nil, fmt.Errorf("%w: %q has %d bytes", ErrCorrupt, name, content.Size())
	}
	return io.ReadAll(content)
}

// blobName is a blob's place in an OCI layout (image-layout.md).
func blobName(digest string) string {
	return "blobs/" + strings.Replace(digest, ":", "/", 1)
}

// stoppable ends a stream when a context does, at the next read.
type stoppable struct {
	ctx context.Context
	io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.Reader.Read(p)
}
