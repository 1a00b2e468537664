package layer

import (
	"context"
	"io"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"
)

const (
	// commonWindow is what compressors use that nobody asked for more (zstd up to level 19), what RFC 8878 wants every decoder to support, and what each
	// stream counts for at least.
	commonWindow = 8 << 20
	// windowBudget is what the windows of all streams may take at once. A larger one has it alone.
	windowBudget = 6 * commonWindow
	// spareTime is how long a decoder waits for the next layer.
	spareTime = 2 * time.Second
)

// decoders are the process's: what they take is most of its memory while it pulls.
var decoders = newDecoderPool()

// decoder decompresses frames with windows of so many bytes, and has memory for one such window.
type decoder struct {
	*zstd.Decoder
	window uint64
}

// room is what it counts for.
func (d *decoder) room() int64 { return int64(min(d.window, windowBudget)) }

// decoderPool bounds what decoders take. Used ones and spare ones together have windows of windowBudget, or of the one that is larger.
type decoderPool struct {
	room *semaphore.Weighted

	mu    sync.Mutex
	used  uint64 // bytes of windows
	spare []*decoder
	timer *time.Timer
}

func newDecoderPool() *decoderPool {
	p := &decoderPool{room: semaphore.NewWeighted(windowBudget)}
	p.timer = time.AfterFunc(0, p.clear)
	return p
}

// take waits until there is room, until ctx ends, and calls waiting, which may be nil, every second meanwhile. The decoder goes back by give.
func (p *decoderPool) take(ctx context.Context, window uint64, waiting func()) (*decoder, error) {
	d := &decoder{window: max(window, commonWindow)}
	if err := p.waitForRoom(ctx, d.room(), waiting); err != nil {
		return nil, err
	}
	if spare := p.reuse(d.window); spare != nil {
		return spare, nil
	}
	z, err := newDecoder(nil, d.window)
	if err != nil { // of an option
		p.mu.Lock()
		p.used -= d.window
		p.mu.Unlock()
		p.room.Release(d.room())
		return nil, err
	}
	d.Decoder = z
	return d, nil
}

// newDecoder uses one goroutine, its reader's: the stages before and after it are others, and so are other layers. Frames' own checksums, of 32 bits, are passed over: what
// comes out of a layer's is held against a digest.
func newDecoder(r io.Reader, window uint64) (*zstd.Decoder, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1), zstd.IgnoreChecksum(true))
	if err != nil {
		return nil, corrupt("decompress: %w", err)
	}
	return z, nil
}

// reuse counts a window as used, and returns a spare decoder for it, or makes room for a new one.
func (p *decoderPool) reuse(window uint64) *decoder {
	p.mu.Lock()
	p.used += window
	most := p.used
	for i, d := range p.spare {
		if d.window == window {
			p.spare = slices.Delete(p.spare, i, i+1)
			p.mu.Unlock()
			return d
		}
		most += d.window
	}
	p.mu.Unlock()
	if most > windowBudget {
		p.clear()
	}
	return nil
}

// give takes a decoder back, to be spare.
func (p *decoderPool) give(d *decoder) {
	spare := d.Reset(nil) == nil // without its stream
	p.mu.Lock()
	p.used -= d.window
	if spare {
		p.spare = append(p.spare, d)
		p.timer.Reset(spareTime)
	}
	p.mu.Unlock()
	p.room.Release(d.room())
}

// clear gives what spare decoders have back to the system.
func (p *decoderPool) clear() {
	p.mu.Lock()
	spare := p.spare
	p.spare = nil
	p.mu.Unlock()
	if len(spare) == 0 {
		return
	}
	for _, d := range spare {
		d.Close()
	}
	debug.FreeOSMemory()
}

func (p *decoderPool) waitForRoom(ctx context.Context, room int64, waiting func()) error {
	if p.room.TryAcquire(room) {
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
	err := p.room.Acquire(ctx, room)
	if err != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	ticking.Wait()
	return err
}
