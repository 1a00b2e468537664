package imagestore

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// watchdog ends a context when nothing moves for some time. There is no other deadline for a pull: kubelet sets none, and images are as
// large as they are.
type watchdog struct {
	moved atomic.Bool
}

// watch returns a context that ends, with a cause that wraps ErrUnavailable, after a time without a call of touch: up to twice the timeout,
// as it looks in intervals and touch must cost nothing. release ends the watching, and the context.
func watch(ctx context.Context, timeout time.Duration) (_ context.Context, dog *watchdog, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	dog = &watchdog{}
	ticker := time.NewTicker(timeout)
	go func() { // ends with ctx, which release ends
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if !dog.moved.Swap(false) {
					cancel(fmt.Errorf("%w: no data for %s", ErrUnavailable, timeout))
				}
			}
		}
	}()
	return ctx, dog, func() { cancel(nil) }
}

// touch says that something moved. It is cheap, and for concurrent use.
func (w *watchdog) touch() {
	if !w.moved.Load() {
		w.moved.Store(true)
	}
}
