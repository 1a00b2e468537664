package sandbox

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestExecTurns(t *testing.T) {
	var turns execTurns
	first, err := turns.take(t.Context(), 1, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turns.take(t.Context(), 1, false); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many that may not wait: %v", err)
	}
	short, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, ErrTimeout)
	defer cancel()
	if _, err := turns.take(short, 1, true); !errors.Is(err, ErrBusy) || !errors.Is(err, ErrTimeout) {
		t.Errorf("one whose time passed in the line: %v", err)
	}
	got := make(chan error)
	go func() {
		leave, err := turns.take(t.Context(), 1, true)
		if err == nil {
			leave()
		}
		got <- err
	}()
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
		turns.mu.Lock()
		waits := len(turns.line)
		turns.mu.Unlock()
		if waits == 1 {
			break
		}
	}
	first()
	if err := <-got; err != nil {
		t.Errorf("one that waits: %v", err)
	}
	if turns.busy != 0 || len(turns.line) != 0 {
		t.Errorf("left: %d, %d in the line", turns.busy, len(turns.line))
	}
	if leave, err := turns.take(t.Context(), 0, false); err != nil {
		t.Errorf("without a bound: %v", err)
	} else {
		leave()
	}
}

// No more than may, and all that wait come to their turn.
func TestExecTurnsInParallel(t *testing.T) {
	var turns execTurns
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			leave, err := turns.take(t.Context(), 3, true)
			if err != nil {
				t.Error(err)
				return
			}
			defer leave()
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(100 * time.Microsecond)
			inside.Add(-1)
		})
	}
	wg.Wait()
	if most.Load() > 3 || turns.busy != 0 {
		t.Errorf("%d at once, %d left", most.Load(), turns.busy)
	}
}
