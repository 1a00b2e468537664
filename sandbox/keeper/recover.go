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
func (u *upkeep) recover(pid int) {
	begin := time.Now()
	u.cfg.Log.WithField("pid", pid).Warn("keeper lost")
	ctx, cancel := context.WithCancel(context.Background()) // a loop of the daemon's own
	defer cancel()
	go func() { // ends with recover
		select {
		case <-u.line.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	for pause := recoverFirst; ; pause = min(2*pause, recoverLast) {
		err := u.reconnect(ctx)
		if err == nil {
			u.cfg.Log.WithField("pid", u.line.keeper()).WithField("took", time.Since(begin)).Warn("keeper replaced")
			return
		}
		if ctx.Err() != nil {
			return
		}
		u.cfg.Log.WithError(err).Error("keeper could not be replaced, trying again")
		if sleep(ctx, pause) != nil {
			return
		}
	}
}

func (u *upkeep) reconnect(ctx context.Context) error {
	conn, hello, kept, err := u.cfg.dial(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(kept))
	var strange []string
	for _, k := range kept {
		known[k.record.Key] = true
		switch {
		case !u.holdings.known(k.record.Key):
			strange = append(strange, k.record.Key)
		case k.record.Exit != nil:
			u.holdings.exited(k.record)
		}
	}
	closeKept(kept)
	l := newLink(conn, hello)
	u.tend(l)
	// What we don't know was launched for somebody who was told ErrInterrupted.
	for _, key := range strange {
		if a := l.call(ctx, &call{kind: wire.KindAbort, child: -1}, &wire.Record{Key: key}, nil); a.err != nil {
			conn.Close()
			return a.err
		}
	}
	if err := u.handOver(ctx, l, known); err != nil {
		conn.Close()
		return err
	}
	if !u.line.use(l) {
		conn.Close()
		return errLost
	}
	return nil
}

// handOver gives the keeper all that it doesn't know.
func (u *upkeep) handOver(ctx context.Context, l *link, known map[string]bool) error {
	for _, key := range u.holdings.keys(known) {
		r, fds, err := u.holdings.record(key)
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
			u.cfg.Log.WithField("container", key).WithError(a.err).Error("keeper could not take all over")
		}
	}
	return nil
}
