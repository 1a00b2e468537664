package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// Client is the daemon's connection to its keeper, and its duplicate of all that the keeper holds. Its
// methods may be called concurrently.
type Client struct {
	kept    []Kept
	closing sync.Once
	*upkeep
}

// Connect connects to the keeper that serves cfg.Dir, or starts one when there is none. ErrBusy: it
// serves another daemon. Several clients that connect at once start one keeper, and one of them gets it.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	c := &Client{upkeep: &upkeep{cfg: cfg, line: newLine(), holdings: newHoldings()}}
	conn, hello, kept, err := cfg.dial(ctx)
	if err != nil {
		return nil, err
	}
	for i, k := range kept {
		out, err := c.holdings.takeOver(k.record, k.files)
		c.kept = append(c.kept, out)
		if err != nil {
			conn.Close()
			closeKept(kept[i+1:])
			c.holdings.close()
			return nil, fmt.Errorf("take over %q: %w", k.record.Key, err)
		}
	}
	l := newLink(conn, hello)
	c.line.use(l)
	c.tend(l)
	c.wg.Go(func() { c.holdings.exits.run(c.line.done) }) // ends by Close
	return c, nil
}

// Kept returns what the keeper held when Connect connected. The files are the caller's to close.
func (c *Client) Kept() []Kept { return c.kept }

// PID returns the keeper's process id.
func (c *Client) PID() int { return c.line.keeper() }

// Exits returns the ends of all processes, oneshots included, in the order in which the keeper told
// them; somebody must read it. What was not forgotten comes again after the next Connect. It is closed
// by Close.
func (c *Client) Exits() <-chan Exit { return c.holdings.exits.out }

// Wait blocks until the process under key has ended. ErrUnknownKey: there is none; the end of a oneshot
// is remembered for one Wait, among the latest 1,024.
func (c *Client) Wait(ctx context.Context, key string) (Exit, error) {
	p, exit := c.holdings.process(key, true)
	if exit.Key != "" {
		return exit, nil
	}
	if p == nil {
		return Exit{}, fmt.Errorf("wait for %q: %w", key, ErrUnknownKey)
	}
	select {
	case <-p.ended:
		return c.holdings.exit(key, p), nil
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("wait for %q: %w", key, ctx.Err())
	case <-c.line.done:
		return Exit{}, fmt.Errorf("wait for %q: %w", key, ErrClosed)
	}
}

// Hold keeps duplicates of descriptors under a key, here and in the keeper, until Forget. It adds to
// what is held, in place of what has the same name.
func (c *Client) Hold(ctx context.Context, key string, files map[string]*os.File) error {
	holds, err := dupFiles(files)
	if err != nil {
		return fmt.Errorf("hold %q: %w", key, err)
	}
	r := &wire.Record{Key: key}
	fds := appendHolds(r, nil, holds)
	if err := r.Check(); err != nil {
		closeAll(fds...)
		return fmt.Errorf("hold %q: %w", key, err)
	}
	sent, err := dupAll(fds) // those held may be closed by a Forget meanwhile
	if err != nil {
		closeAll(fds...)
		return fmt.Errorf("hold %q: %w", key, err)
	}
	defer closeAll(sent...)
	c.holdings.add(key, holds)
	if err := c.line.repeat(ctx, wire.KindHold, r, sent); err != nil {
		return fmt.Errorf("hold %q: %w", key, err)
	}
	return nil
}

// Forget drops what is kept under key: exit record and descriptors, here and in the keeper. A process
// that runs goes on; nobody tells its exit any more. It may be called twice, and for unknown keys.
func (c *Client) Forget(ctx context.Context, key string) error {
	c.holdings.drop(key)
	if err := c.line.repeat(ctx, wire.KindForget, &wire.Record{Key: key}, nil); err != nil {
		return fmt.Errorf("forget %q: %w", key, err)
	}
	return nil
}

// Close disconnects and closes what the client holds; keeper and processes go on. It may be called twice.
func (c *Client) Close() error {
	c.closing.Do(func() {
		if l := c.line.hangUp(); l != nil {
			l.conn.Close()
		}
		c.wg.Wait()
		c.holdings.close()
	})
	return nil
}

// Shutdown ends the keeper, and with it the client, when it keeps nothing; otherwise it returns ErrKept,
// and both go on.
func (c *Client) Shutdown(ctx context.Context) error {
	keeper, err := unix.PidfdOpen(c.PID(), 0)
	if err != nil {
		return fmt.Errorf("open keeper's pidfd: %w", err)
	}
	defer unix.Close(keeper)
	if err := c.line.repeat(ctx, wire.KindShutdown, &wire.Record{Key: "-"}, nil); err != nil {
		return fmt.Errorf("shut down keeper: %w", err)
	}
	return errors.Join(c.Close(), awaitEnd(ctx, keeper), c.cfg.removeSocket(ctx))
}

// awaitEnd blocks until the process has ended.
func awaitEnd(ctx context.Context, pidfd int) error {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		if n, err := unix.Poll(p, 20); n == 1 && err == nil {
			return nil
		}
	}
	return fmt.Errorf("wait for keeper's end: %w", ctx.Err())
}

// result makes an error of a result.
func result(r wire.Result) error {
	switch r.Code {
	case wire.OK:
		return nil
	case wire.StepFailed:
		return &launch.StepError{Step: r.Step, Errno: r.Errno}
	case wire.InUse:
		return ErrKeyInUse
	case wire.Unknown:
		return ErrUnknownKey
	case wire.StillKept:
		return ErrKept
	case wire.Aborted:
		return context.Canceled
	}
	if r.Errno != 0 {
		return &keeperError{text: r.Text, cause: r.Errno}
	}
	return errors.New(r.Text)
}

// keeperError is an error of the keeper's, with its errno.
type keeperError struct {
	text  string
	cause error
}

func (e *keeperError) Error() string { return e.text }
func (e *keeperError) Unwrap() error { return e.cause }

var errKept = errors.New("keeper told of what it keeps in a form that this daemon doesn't know")
