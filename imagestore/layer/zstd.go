package layer

import (
	"bufio"
	"context"
	"fmt"
	"io"
)

// MinWindow and MaxWindow bound what NewBudget and Decompress may be told that a zstd window may have. RFC 8878 section 3.1.1.1.2 wants 8 MiB to be
// supported everywhere, and lets decoders refuse more; 128 MiB is what `zstd --long=27` and `--ultra -22` need, the most that its own decoder takes unasked.
const (
	MinWindow = commonWindow
	MaxWindow = 128 << 20
)

// zstdReader decompresses frame by frame. Each frame says what window it needs (RFC 8878 section 3.1.1.1.2), and the frames of one stream, of which
// zstd:chunked has one for each file or so, need not agree: before one that needs more than is held, what is held is given back.
type zstdReader struct {
	ctx     context.Context
	most    uint64 // that a window may have
	waiting func()
	frames  *frames
	held    *decoder // nil after an error
	err     error
}

// newZstdReader waits until there is room for the window that the stream's first frame needs.
func newZstdReader(ctx context.Context, r *bufio.Reader, most int64, waiting func()) (io.ReadCloser, error) {
	z := &zstdReader{ctx: ctx, most: uint64(most), waiting: waiting, frames: newFrames(r)}
	z.frames.find() // what keeps it from being found, reading finds again
	if err := z.hold(z.frames.wants); err != nil {
		return nil, err
	}
	return z, nil
}

// hold gets a decoder for frames with windows of so many bytes.
func (z *zstdReader) hold(window uint64) error {
	if window > z.most {
		return fmt.Errorf("decompress: zstd window of %d bytes, where max_zstd_window is %d: %w", window, z.most, ErrTooLarge)
	}
	if z.held != nil { // first: who held and waited could wait for ever
		decoders.give(z.held)
		z.held = nil
	}
	held, err := decoders.take(z.ctx, window, z.waiting)
	if err != nil {
		return err
	}
	z.held = held
	z.frames.allow(held.window)
	if err := held.Reset(z.frames); err != nil {
		return corrupt("decompress: %w", err)
	}
	return nil
}

func (z *zstdReader) Read(p []byte) (n int, err error) {
	for n == 0 && len(p) > 0 && z.err == nil {
		if n, z.err = z.held.Read(p); z.err == io.EOF && z.frames.wants > 0 {
			z.err = z.hold(z.frames.wants)
		}
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, z.err
}

// Close may be called twice.
func (z *zstdReader) Close() error {
	if z.held != nil {
		decoders.give(z.held)
		z.held = nil
	}
	z.err = io.ErrClosedPipe
	return nil
}
