package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// Reopen makes another file the log of the process under key (opened as Launch.Log is): what was being
// written goes whole into the old one, what comes after into the new one. It returns when the keeper
// went over; on an error (the old file's disk is full: ENOSPC) the old one stays. A line longer than
// MaxLine may have its later pieces in the new file.
func (c *Client) Reopen(ctx context.Context, key string, log *os.File) error {
	p, _ := c.holdings.process(key, false)
	if p == nil {
		return fmt.Errorf("reopen log of %q: %w", key, ErrUnknownKey)
	}
	fd, err := dupFile(log)
	if err != nil {
		return fmt.Errorf("reopen log of %q: %w", key, err)
	}
	select {
	case p.reopening <- struct{}{}:
	case <-ctx.Done():
		closeAll(fd)
		return fmt.Errorf("reopen log of %q: %w", key, ctx.Err())
	}
	// The exchange goes on when the caller gives up: old and new file are both held until it is over.
	over := make(chan error, 1)
	go func() { // ends with the keeper's answer, or by Close
		over <- c.reopen(context.WithoutCancel(ctx), key, p, fd)
		<-p.reopening
	}()
	select {
	case err = <-over:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("reopen log of %q: %w", key, err)
	}
	return nil
}

func (c *Client) reopen(ctx context.Context, key string, p *heldProcess, fd int) error {
	sent, err := dupAll([]int{fd})
	if err != nil {
		closeAll(fd)
		return err
	}
	defer closeAll(sent...)
	generation, err := c.holdings.beginReopen(p, fd)
	if err != nil {
		return err
	}
	r := &wire.Record{Key: key, Generation: generation, Logs: 1}
	a, _ := c.line.call(ctx, &call{kind: wire.KindReopen, child: -1}, r, sent)
	if errors.Is(a.err, errLost) {
		// The next keeper gets both files, completes the old one and goes over by itself.
		_, a.err = c.line.wait(ctx)
	}
	return c.holdings.endReopen(p, a.err)
}

// beginReopen holds another log beside a process's present one, and takes it over.
func (s *holdings) beginReopen(p *heldProcess, fd int) (generation uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(p.logs) == 0 { // it has none, or was forgotten
		closeAll(fd)
		return 0, ErrUnknownKey
	}
	p.logs = append(p.logs, fd)
	p.generation++
	return p.generation, nil
}

// endReopen lets go of the old log, or on an error of the new one.
func (s *holdings) endReopen(p *heldProcess, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(p.logs) < 2 { // forgotten meanwhile
		return ErrUnknownKey
	}
	if err != nil {
		closeAll(p.logs[1])
		p.logs = p.logs[:1]
		p.generation--
		return err
	}
	closeAll(p.logs[0])
	p.logs = p.logs[1:]
	return nil
}
