package imagestore

import (
	"context"
	"errors"
	"sync"
)

var errClosed = errors.New("image store is closed")

// flights are the running pulls, so that callers who want the same can share one.
type flights struct {
	mu      sync.Mutex
	byKey   map[string]*flight
	closed  bool
	workers sync.WaitGroup // one a flight; stop waits for them
}

// flight is one pull and those who wait for it.
type flight struct {
	waiting int
	cancel  context.CancelCauseFunc
	far     progress
	done    chan struct{}
	image   *Image
	err     error
}

func newFlights() *flights {
	return &flights{byKey: map[string]*flight{}}
}

// join waits for the flight of that key, started with work when there is none. A caller whose context ends leaves at once; when it was the
// last, the flight's own context ends too, and the next caller starts another.
func (f *flights) join(ctx context.Context, key string, work func(context.Context) (*Image, error)) (*Image, error) {
	fl, err := f.board(ctx, key, work)
	if err != nil {
		return nil, err
	}
	select {
	case <-fl.done:
		return fl.image, fl.err
	case <-ctx.Done():
		f.leave(key, fl, context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
}

func (f *flights) board(ctx context.Context, key string, work func(context.Context) (*Image, error)) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	if fl := f.byKey[key]; fl != nil {
		fl.waiting++
		return fl, nil
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	fl := &flight{waiting: 1, cancel: cancel, done: make(chan struct{})}
	f.byKey[key] = fl
	f.workers.Go(func() {
		fl.image, fl.err = work(fl.far.reporting(ctx))
		cancel(nil)
		f.remove(key, fl)
		close(fl.done)
	})
	return fl, nil
}

// progress tells how far a flight is; nil when there is none.
func (f *flights) progress(key string) []LayerProgress {
	f.mu.Lock()
	fl := f.byKey[key]
	f.mu.Unlock()
	if fl == nil {
		return nil
	}
	return fl.far.snapshot()
}

func (f *flights) leave(key string, fl *flight, cause error) {
	f.mu.Lock()
	fl.waiting--
	last := fl.waiting == 0
	f.mu.Unlock()
	if last {
		f.remove(key, fl)
		fl.cancel(cause)
	}
}

func (f *flights) remove(key string, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey[key] == fl {
		delete(f.byKey, key)
	}
}

// stop ends all flights and waits for them. It may be called twice.
func (f *flights) stop() {
	f.mu.Lock()
	f.closed = true
	for _, fl := range f.byKey {
		fl.cancel(errClosed)
	}
	f.mu.Unlock()
	f.workers.Wait()
}
