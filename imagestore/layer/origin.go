package layer

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// A layer's tar can't be made again from its files alone: headers are written in many ways, and the image's id hangs on each byte. The origin
// is what the tar has besides the files' contents, in order, compressed by zstd:
//
//	uvarint length, bytes          as they were in the tar; a length of 0 is followed by
//	uvarint length, path, uvarint size    the content of that file
const originWindow = 256 << 10

// originWriter stands before the tar reader and keeps all that isn't content.
type originWriter struct {
	r    io.Reader
	out  *zstd.Encoder
	skip int64 // of the bytes to come: content
	// lost: something was replaced whose content is therefore nowhere. The origin is worth nothing.
	lost bool
}

// newOriginWriter writes to w, which may be nil.
func newOriginWriter(r io.Reader, w io.Writer) (*originWriter, error) {
	o := &originWriter{r: r}
	if w == nil {
		return o, nil
	}
	var err error
	o.out, err = zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(originWindow), zstd.WithLowerEncoderMem(true))
	return o, err
}

// Read passes the tar on.
func (o *originWriter) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	if o.out == nil || n == 0 {
		return n, err
	}
	content := min(int64(n), o.skip)
	o.skip -= content
	if raw := p[content:n]; len(raw) > 0 {
		if _, writeErr := o.out.Write(append(binary.AppendUvarint(nil, uint64(len(raw))), raw...)); writeErr != nil {
			return n, fmt.Errorf("keep the tar's headers: %w", writeErr)
		}
	}
	return n, err
}

// content says that the next bytes are those of a file.
func (o *originWriter) content(path string, size int64) error {
	if o.out == nil || size == 0 {
		return nil
	}
	o.skip = size
	mark := binary.AppendUvarint([]byte{0}, uint64(len(path)))
	mark = binary.AppendUvarint(append(mark, path...), uint64(size))
	if _, err := o.out.Write(mark); err != nil {
		return fmt.Errorf("keep the tar's headers: %w", err)
	}
	return nil
}

// close finishes the origin. kept tells whether it is one.
func (o *originWriter) close() (kept bool, err error) {
	if o.out == nil {
		return false, nil
	}
	if err := o.out.Close(); err != nil {
		return false, fmt.Errorf("keep the tar's headers: %w", err)
	}
	return !o.lost, nil
}

// Assemble writes the tar that the layer in dir was unpacked from. A file that isn't there, or has another size, is ErrCorrupt; other content
// changes the tar's digest.
func Assemble(ctx context.Context, dir string, origin io.Reader, w io.Writer) error {
	z, err := newDecoder(origin, commonWindow)
	if err != nil {
		return err
	}
	defer z.Close()
	root, err := openRoot(dir)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	a := assembler{ctx: ctx, root: root, origin: bufio.NewReader(z), out: &sink{w: w}, buf: make([]byte, 256<<10)}
	for {
		err := a.segment()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type assembler struct {
	ctx    context.Context
	root   int
	origin *bufio.Reader
	out    *sink
	buf    []byte
}

// segment returns io.EOF after the last one.
func (a *assembler) segment() error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	length, err := binary.ReadUvarint(a.origin)
	if err == io.EOF {
		return io.EOF
	}
	if err != nil {
		return a.bad(err)
	}
	if length > 0 {
		if _, err := io.CopyBuffer(a.out, io.LimitReader(a.origin, int64(min(length, 1<<40))), a.buf); err != nil {
			return a.bad(err)
		}
		return nil
	}
	return a.file()
}

// sink keeps CopyBuffer to its buffer, and tells errors of writing from those of reading.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.err = err
	return n, err
}

// bad is an error of reading, unless that of writing came first.
func (a *assembler) bad(err error) error {
	if a.out.err != nil {
		return a.out.err
	}
	return corrupt("read the tar's headers: %w", err)
}

func (a *assembler) file() error {
	length, err := binary.ReadUvarint(a.origin)
	if err != nil || length == 0 || length > unix.PathMax {
		return corrupt("read the tar's headers: a path of %d bytes: %w", length, err)
	}
	path := make([]byte, length)
	if _, err := io.ReadFull(a.origin, path); err != nil {
		return a.bad(err)
	}
	size, err := binary.ReadUvarint(a.origin)
	if err != nil {
		return a.bad(err)
	}
	fd, err := openBelow(a.root, string(path), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return corrupt("file %s: %w", quoteName(string(path)), err)
	}
	f := os.NewFile(uintptr(fd), string(path))
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != int64(size) {
		return corrupt("file %s: it has %d bytes, and had %d", quoteName(string(path)), info.Size(), size)
	}
	n, err := io.CopyBuffer(a.out, io.LimitReader(f, int64(size)), a.buf)
	switch {
	case a.out.err != nil:
		return a.out.err
	case err != nil:
		return corrupt("read file %s: %w", quoteName(string(path)), err)
	case n != int64(size):
		return corrupt("file %s: it has %d bytes, and had %d", quoteName(string(path)), n, size)
	}
	return nil
}
