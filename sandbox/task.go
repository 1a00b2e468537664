package sandbox

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// tasks runs work that may outlive the callers who asked for it. Who asks for a
// key while its work runs joins it: a request that timed out is repeated with the
// same identity, and must find the first attempt's result, never an obstacle.
type tasks struct {
	log logrus.FieldLogger

	mu      sync.Mutex
	running map[string]*task
	closing bool
	wg      sync.WaitGroup

	base context.Context // ends when nothing may go on any more
	end  context.CancelCauseFunc
}

// task is work under way.
type task struct {
	done  chan struct{} // closed at the end
	value string        // valid after done, as is err
	err   error
}

func newTasks(ctx context.Context, log logrus.FieldLogger) *tasks {
	t := &tasks{log: log, running: map[string]*task{}}
	t.base, t.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return t
}

// do joins the work under key, or starts it, and waits for its end or that of
// ctx. The work gets ctx's values, and limit as its deadline; it is not cancelled
// with ctx.
func (t *tasks) do(ctx context.Context, key string, limit time.Duration, work func(context.Context) (string, error)) (string, error) {
	k, err := t.join(ctx, key, limit, work)
	if err != nil {
		return "", err
	}
	select {
	case <-k.done:
		return k.value, k.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (t *tasks) join(ctx context.Context, key string, limit time.Duration, work func(context.Context) (string, error)) (*task, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, ok := t.running[key]; ok {
		return k, nil
	}
	if t.closing {
		return nil, ErrClosed
	}
	k := &task{done: make(chan struct{})}
	t.running[key] = k
	t.wg.Go(func() {
		defer t.finish(key, k)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		ctx, stop := with(ctx, t.base)
		defer stop()
		k.err = guarded(func() (err error) {
			k.value, err = work(ctx)
			return err
		})
		tellPanic(t.log, key, k.err)
	})
	return k, nil
}

func (t *tasks) finish(key string, k *task) {
	t.mu.Lock()
	delete(t.running, key)
	t.mu.Unlock()
	close(k.done)
}

// goes starts work that nobody waits for. It is false, and nothing is started,
// when the manager is closing.
func (t *tasks) goes(work func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return false
	}
	t.wg.Go(func() {
		tellPanic(t.log, "work of its own", guarded(func() error {
			work(t.base)
			return nil
		}))
	})
	return true
}

// close refuses new work and waits for the old: as long as ctx lasts it may go on
// undisturbed, then it is cancelled and undoes what it did.
func (t *tasks) close(ctx context.Context) {
	t.mu.Lock()
	t.closing = true
	t.mu.Unlock()
	done := make(chan struct{})
	go func() { t.wg.Wait(); close(done) }() // ends below, with done
	select {
	case <-done:
	case <-ctx.Done():
	}
	t.end(ErrClosed)
	<-done
}

// with returns ctx, which ends with other too. The caller calls stop.
func with(ctx, other context.Context) (joined context.Context, stop func()) {
	joined, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return joined, func() { unhook(); cancel(nil) }
}
