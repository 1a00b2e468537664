package layer

import (
	"bufio"
	"context"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow is the largest zstd window accepted: what `zstd --long=27`, the most that decoders take unasked, needs.
	maxWindow = 128 << 20
	// commonWindow is what compressors use that nobody asked for more: 8 MiB up to level 19.
	commonWindow = 16 << 20
)

// largeWindow is held by the one stream that needs a window larger than commonWindow: four of the largest would be half a gigabyte.
var largeWindow = make(chan struct{}, 1)

// zstdReaders are decoders of common windows that were used. One layer after another takes the same.
var zstdReaders sync.Pool

// zstdReader is a decoder, and where it goes when it is closed.
type zstdReader struct {
	*zstd.Decoder
	done func(*zstd.Decoder)
}

// newZstdReader waits for its turn when the stream needs a large window.
func newZstdReader(ctx context.Context, r *bufio.Reader, waiting func()) (io.ReadCloser, error) {
	if needsLargeWindow(r) {
		return newLargeReader(ctx, r, waiting)
	}
	keep := func(z *zstd.Decoder) {
		if z.Reset(nil) == nil {
			zstdReaders.Put(z)
		}
	}
	if z, used := zstdReaders.Get().(*zstd.Decoder); used {
		if err := z.Reset(r); err != nil {
			return nil, corrupt("decompress: %w", err)
		}
		return zstdReader{z, keep}, nil
	}
	z, err := decoder(r, commonWindow)
	if err != nil {
		return nil, err
	}
	return zstdReader{z, keep}, nil
}

// needsLargeWindow looks at the first frame. One that can't be read is the decoder's to complain of. What starts with a skippable frame may be
// anything.
func needsLargeWindow(r *bufio.Reader) bool {
	start, _ := r.Peek(zstd.HeaderMaxSize) // shorter at the stream's end
	var header zstd.Header
	if header.Decode(start) != nil {
		return false
	}
	return header.Skippable || header.WindowSize > commonWindow
}

func newLargeReader(ctx context.Context, r io.Reader, waiting func()) (io.ReadCloser, error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for waited := false; !waited; {
		select {
		case largeWindow <- struct{}{}:
			waited = true
		case <-ticker.C:
			if waiting != nil {
				waiting()
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	z, err := decoder(r, maxWindow)
	if err != nil {
		<-largeWindow
		return nil, err
	}
	return zstdReader{z, func(z *zstd.Decoder) {
		z.Close()
		<-largeWindow
	}}, nil
}

// decoder uses one goroutine, its reader's: the stages before and after it are others, and so are other layers.
func decoder(r io.Reader, window uint64) (*zstd.Decoder, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, corrupt("decompress: %w", err)
	}
	return z, nil
}

// Close must be called once.
func (z zstdReader) Close() error {
	z.done(z.Decoder)
	return nil
}
