package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// Pauses between tries to get a keeper again.
const (
	recoverFirst = 10 * time.Millisecond
	recoverLast  = 2 * time.Second
)

// recover gets a keeper after the connection to process pid ended, and hands it all that it doesn't
// keep already. It tries until it succeeds or the client is closed.
func (c *Client) recover(pid int) {
	defer c.wg.Done()
	begin := time.Now()
	c.cfg.Log.WithField("pid", pid).Warn("keeper lost")
	ctx, cancel := context.WithCancel(context.Background()) // a loop of the daemon's own
	defer cancel()
	go func() { // ends with recover
		select {
		case <-c.line.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	for pause := recoverFirst; ; pause = min(2*pause, recoverLast) {
		err := c.reconnect(ctx)
		if err == nil {
			c.cfg.Log.WithField("pid", c.PID()).WithField("took", time.Since(begin)).Warn("keeper replaced")
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.cfg.Log.WithError(err).Error("keeper could not be replaced, trying again")
		if sleep(ctx, pause) != nil {
			return
		}
	}
}

func (c *Client) reconnect(ctx context.Context) error {
	conn, hello, kept, err := c.cfg.dial(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(kept))
	var strange []string
	for _, k := range kept {
		known[k.record.Key] = true
		switch {
		case !c.holdings.known(k.record.Key):
			strange = append(strange, k.record.Key)
		case k.record.Exit != nil:
			c.holdings.exited(k.record)
		}
	}
	closeKept(kept)
	l := newLink(conn, hello.PID)
	c.wg.Add(1)
	go c.receive(l) // ends with the connection
	// What we don't know was launched for somebody who was told ErrInterrupted.
	for _, key := range strange {
		if a := l.call(ctx, &call{kind: wire.KindAbort, child: -1}, &wire.Record{Key: key}, nil); a.err != nil {
			conn.Close()
			return a.err
		}
	}
	if err := c.handOver(ctx, l, known); err != nil {
		conn.Close()
		return err
	}
	if !c.line.use(l) {
		conn.Close()
		return errLost
	}
	return nil
}

// handOver gives the keeper all that it doesn't know.
func (c *Client) handOver(ctx context.Context, l *link, known map[string]bool) error {
	for _, key := range c.holdings.keys(known) {
		r, fds, err := c.holdings.record(key)
		if err != nil {
			return fmt.Errorf("hand %q to keeper: %w", key, err)
		}
		if r == nil {
			continue
		}
		a := l.call(ctx, &call{kind: wire.KindAdopt, child: -1}, r, fds)
		closeAll(fds...)
		if errors.Is(a.err, errLost) || ctx.Err() != nil || errors.Is(a.err, unix.EMFILE) {
			return a.err
		}
		if a.err != nil {
			c.cfg.Log.WithField("container", key).WithError(a.err).Error("keeper could not take all over")
		}
	}
	return nil
}
