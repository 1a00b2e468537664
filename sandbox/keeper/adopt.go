package keeper

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// Adopt has the keeper look after a process that another program left behind: its streams, its log and
// its end, as if it had launched it. l says how; its Program and Files are not used. The keeper is the
// parent of what its descendants leave behind (PR_SET_CHILD_SUBREAPER), so the exit code is known. The
// process must be one that can't end before this returns, or on Linux before 6.15 its exit code may be lost.
//
// Errors: ErrKeyInUse. After any error nothing is kept under the key but what Hold put there before.
func (c *Client) Adopt(ctx context.Context, l Launch, proc *Process) error {
	if err := c.adopt(ctx, l, proc); err != nil {
		return fmt.Errorf("adopt process %d as %q: %w", proc.PID, l.Key, err)
	}
	return nil
}

func (c *Client) adopt(ctx context.Context, l Launch, proc *Process) error {
	p, holds, err := l.hold()
	if err != nil {
		return err
	}
	p.pid = proc.PID
	if p.pidfd, err = dupFile(proc.PidFD); err == nil && !c.holdings.adopted(l.Key, p, holds) {
		err = ErrKeyInUse
	}
	if err != nil {
		p.close()
		closeMap(holds)
		return err
	}
	r, fds, err := c.holdings.record(l.Key)
	if err != nil {
		c.holdings.undo(l.Key, p)
		p.close()
		return err
	}
	defer closeAll(fds...)
	a, _ := c.line.call(ctx, &call{kind: wire.KindAdopt, child: -1}, r, fds)
	if a.err == nil || errors.Is(a.err, errLost) {
		return nil // a dead keeper's successor gets all that is held here
	}
	c.holdings.undo(l.Key, p)
	p.close()
	return a.err
}

// adopted holds a process that nobody launched; false: there is one under the key.
func (s *holdings) adopted(key string, p *heldProcess, holds map[string]int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.entry(key)
	if h.process != nil {
		return false
	}
	h.process = p
	h.hold(holds)
	return true
}
