package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// execTurns bounds how many execs a container has at once: each costs the node a process, descriptors, and up to
// maxExecOutput of memory, and who asks for them may not be watching whether the last one has ended. It is bounded
// by container, so that one whose commands hang costs no other its probes.
type execTurns struct {
	mu   sync.Mutex
	busy int
	line []chan struct{} // of those who wait, the first first; closed when it is their turn
}

// take waits for a turn if it may, otherwise it fails with ErrBusy when there is none. most is the bound, 0: none.
// The caller calls leave once.
func (t *execTurns) take(ctx context.Context, most int, wait bool) (leave func(), err error) {
	t.mu.Lock()
	if most == 0 || t.busy < most {
		t.busy++
		t.mu.Unlock()
		return t.leave, nil
	}
	busy := fmt.Errorf("%d others run in it: %w", t.busy, ErrBusy)
	if !wait {
		t.mu.Unlock()
		return nil, busy
	}
	turn := make(chan struct{})
	t.line = append(t.line, turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return t.leave, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.line {
		if other == turn {
			t.line = append(t.line[:i], t.line[i+1:]...)
			return nil, errors.Join(busy, context.Cause(ctx))
		}
	}
	return t.leave, nil // it came just now; the exec itself sees that ctx has ended
}

// leave gives the turn to who has waited longest.
func (t *execTurns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.line) > 0 {
		close(t.line[0])
		t.line = t.line[1:]
		return
	}
	t.busy--
}
