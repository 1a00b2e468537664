package layer

import (
	"bufio"
	"context"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"
)

const (
	// maxWindow is the largest zstd window accepted: what `zstd --long=27`, the most that decoders take unasked, needs.
	maxWindow = 128 << 20
	// commonWindow is what compressors use that nobody asked for more: 8 MiB up to level 19.
	commonWindow = 16 << 20
	// smallWindow is what a stream counts for at least.
	smallWindow = 1 << 20
	// windowBudget is what all streams may hold at once: six of the windows that most have.
	windowBudget = 48 << 20
)

// windows is what the decoders of all streams may hold at once, in bytes. A larger window has it alone: four of the largest would be half a gigabyte.
var windows = semaphore.NewWeighted(windowBudget)

// zstdReaders are decoders of common windows that were used. One layer after another takes the same.
var zstdReaders sync.Pool

// zstdReader is a decoder, and where it goes when it is closed.
type zstdReader struct {
	*zstd.Decoder
	done func(*zstd.Decoder)
}

// newZstdReader waits until there is room for the window that the stream needs.
func newZstdReader(ctx context.Context, r *bufio.Reader, waiting func()) (io.ReadCloser, error) {
	window := windowOf(r)
	room := int64(min(window, windowBudget))
	if err := waitForRoom(ctx, room, waiting); err != nil {
		return nil, err
	}
	take, keep, most := takeCommon, keepCommon, uint64(commonWindow)
	if window > commonWindow {
		take, keep, most = spareLarge.take, spareLarge.keep, maxWindow
	}
	z := take()
	var err error
	if z == nil {
		z, err = decoder(r, most)
	} else if err = z.Reset(r); err != nil {
		err = corrupt("decompress: %w", err)
	}
	if err != nil {
		windows.Release(room)
		return nil, err
	}
	return zstdReader{z, func(z *zstd.Decoder) {
		if z.Reset(nil) == nil {
			keep(z)
		}
		windows.Release(room)
	}}, nil
}

func takeCommon() *zstd.Decoder {
	z, _ := zstdReaders.Get().(*zstd.Decoder)
	return z
}

func keepCommon(z *zstd.Decoder) { zstdReaders.Put(z) }

// windowOf looks at the first frame. One that can't be read is the decoder's to complain of. What starts with a skippable frame may be
// anything.
func windowOf(r *bufio.Reader) uint64 {
	start, _ := r.Peek(zstd.HeaderMaxSize) // shorter at the stream's end
	var header zstd.Header
	if header.Decode(start) != nil {
		return smallWindow
	}
	if header.Skippable {
		return maxWindow
	}
	return max(header.WindowSize, smallWindow)
}

// waitForRoom calls waiting every second meanwhile.
func waitForRoom(ctx context.Context, room int64, waiting func()) error {
	if windows.TryAcquire(room) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var ticking sync.WaitGroup
	ticking.Go(func() { // ends with ctx, below
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if waiting != nil {
					waiting()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	err := windows.Acquire(ctx, room)
	if err != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	ticking.Wait()
	return err
}

// spareLarge is a decoder of large windows that was used, and is for the next layer of the same image. The image's last one leaves it, and it is
// given back to the system soon: it is most of what the process has.
var spareLarge spare

const spareTime = 2 * time.Second

type spare struct {
	mu    sync.Mutex
	z     *zstd.Decoder
	timer *time.Timer
}

func (s *spare) take() *zstd.Decoder {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.z
	s.z = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	return z
}

func (s *spare) keep(z *zstd.Decoder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.z = z
	s.timer = time.AfterFunc(spareTime, func() {
		if z := s.take(); z != nil {
			z.Close()
			debug.FreeOSMemory()
		}
	})
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
