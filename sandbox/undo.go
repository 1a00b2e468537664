package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// rollbackTime bounds how long undoing a failed set-up may take.
const rollbackTime = 30 * time.Second

// step is one thing that a set-up does, and how it is taken back.
type step struct {
	name string // as in "make namespaces: permission denied"
	do   func(context.Context) error
	// undo releases what do made, or what it left when it failed half-way, and
	// is content when there is nothing. nil: do leaves nothing behind.
	undo func(context.Context) error
}

// transaction is a set-up of several steps that leaves all behind or nothing.
// The zero value is an empty one.
//
//	run, run, parallel … ── all well ──▶ (commit: the caller's own last step)
//	        │ an error
//	        ▼
//	    rollback: every undo, last first, also those of the step that failed
type transaction struct {
	watch *stopwatch // notes each step; nil: nobody asks

	mu    sync.Mutex
	undos []step
}

// run does one step. Its undo is noted first: a step that fails, and one during
// which the daemon's patience ends, may have left something.
func (t *transaction) run(ctx context.Context, s step) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", s.name, context.Cause(ctx))
	}
	if s.undo != nil {
		t.mu.Lock()
		t.undos = append(t.undos, s)
		t.mu.Unlock()
	}
	defer t.watch.lap(s.name)()
	if err := guarded(func() error { return s.do(ctx) }); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// sequence does steps one after the other, up to the first that fails.
func (t *transaction) sequence(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if err := t.run(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// errGivenUp is why a step ends whose sibling has failed.
var errGivenUp = errors.New("another step failed")

// parallel does sequences that don't depend on each other, and waits for all. One that fails ends the others'
// context; what they say of that is not told.
func (t *transaction) parallel(ctx context.Context, sequences ...[]step) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	errs := make([]error, len(sequences))
	do := func(i int) {
		err := t.sequence(ctx, sequences[i]...)
		givenUp := errors.Is(context.Cause(ctx), errGivenUp) && (errors.Is(err, errGivenUp) || errors.Is(err, context.Canceled))
		if err != nil && !givenUp {
			errs[i] = err
			giveUp(errGivenUp)
		}
	}
	var wg sync.WaitGroup
	for i := range sequences[1:] {
		wg.Go(func() { do(i + 1) })
	}
	do(0)
	wg.Wait()
	return errors.Join(errs...)
}

// rollback undoes every step, the last first, whatever fails on the way, under a
// deadline of its own. It may be called twice; what failed is tried again then.
func (t *transaction) rollback(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	var errs []error
	var left []step
	for i := len(t.undos) - 1; i >= 0; i-- {
		s := t.undos[i]
		if err := guarded(func() error { return s.undo(ctx) }); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", s.name, err))
			left = append([]step{s}, left...)
		}
	}
	t.undos = left
	return errors.Join(errs...)
}
