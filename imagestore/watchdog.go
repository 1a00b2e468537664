package imagestore

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/berth-runtime/berth/imagestore/registry"
)

// watchdog ends a context when nothing moves for some time. There is no other deadline for a pull: kubelet sets none, and images are as
// large as they are.
type watchdog struct {
	moved   atomic.Bool
	resting atomic.Int64 // until when the registry wants to be left in peace, in nanoseconds since 1970
}

// watch returns a context that ends, with a cause that wraps ErrUnavailable, after a time without a call of touch: up to twice the timeout,
// as it looks in intervals and touch must cost nothing. Pauses that a registry asks for don't count. release ends the watching, and the context.
func watch(ctx context.Context, timeout time.Duration) (_ context.Context, dog *watchdog, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	dog = &watchdog{}
	ctx = registry.OnRest(ctx, func(pause time.Duration) { dog.resting.Store(time.Now().Add(pause + timeout).UnixNano()) })
	ticker := time.NewTicker(timeout)
	go func() { // ends with ctx, which release ends
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if !dog.moved.Swap(false) && time.Now().UnixNano() > dog.resting.Load() {
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
