package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// errLost is the end of a connection under a call.
var errLost = errors.New("connection to keeper lost")

// Client is the daemon's connection to its keeper, and its duplicate of all that the keeper holds. Its
// methods may be called concurrently.
type Client struct {
	cfg   Config
	kept  []Kept
	exits chan Exit
	done  chan struct{} // closed by Close and Shutdown
	wg    sync.WaitGroup

	closing sync.Once

	mu      sync.Mutex
	link    *link         // nil while there is none
	changed chan struct{} // closed and replaced when link or closed changes
	pid     int
	closed  bool
	last    uint32
	held    map[string]*held
	past    past // ends of oneshots
	queue   []Exit
	wake    chan struct{} // has room for one: queue is not empty
}

// link is a connection to a keeper. Its fields belong to the client's lock.
type link struct {
	conn  *wire.Conn
	pid   int
	ended bool
	calls map[uint32]*call
}

// call is a request under way.
type call struct {
	kind   wire.Kind
	key    string
	reply  chan answer // has room for one
	launch *held       // of a launch: what is held once it succeeds
	child  int         // of a launch: pidfd of its child, -1 while unknown
}

type answer struct {
	result wire.Result
	pidfd  int // of a launch that succeeded, the receiver's to close
	err    error
	open   bool // nobody answered, and somebody may still
}

func refusal(err error) answer { return answer{err: err, pidfd: -1} }

// Connect connects to the keeper that serves cfg.Dir, or starts one when there is none. ErrBusy: it
// serves another daemon. Several clients that connect at once start one keeper, and one of them gets it.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	c := &Client{
		cfg: cfg, exits: make(chan Exit), done: make(chan struct{}), wake: make(chan struct{}, 1),
		changed: make(chan struct{}), held: make(map[string]*held),
	}
	conn, hello, kept, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	for i, k := range kept {
		if err := c.takeOver(k); err != nil {
			conn.Close()
			closeKept(kept[i+1:])
			c.closeHeld()
			return nil, fmt.Errorf("take over %q: %w", k.record.Key, err)
		}
	}
	l := &link{conn: conn, pid: hello.PID, calls: make(map[uint32]*call)}
	c.use(l)
	c.wg.Add(2)
	go c.receive(l) // ends with the connection
	go c.deliver()  // ends by Close
	return c, nil
}

// Kept returns what the keeper held when Connect connected. The files are the caller's to close.
func (c *Client) Kept() []Kept { return c.kept }

// PID returns the keeper's process id.
func (c *Client) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// Exits returns the ends of all processes, oneshots included, in the order in which the keeper told
// them; somebody must read it. What was not forgotten comes again after the next Connect. It is closed
// by Close.
func (c *Client) Exits() <-chan Exit { return c.exits }

// Wait blocks until the process under key has ended. ErrUnknownKey: there is none; the end of a oneshot
// is remembered for one Wait, among the latest 1,024.
func (c *Client) Wait(ctx context.Context, key string) (Exit, error) {
	c.mu.Lock()
	if exit, ok := c.past.take(key); ok {
		c.mu.Unlock()
		return exit, nil
	}
	h := c.held[key]
	if h == nil || h.process == nil {
		c.mu.Unlock()
		return Exit{}, fmt.Errorf("wait for %q: %w", key, ErrUnknownKey)
	}
	p := h.process
	c.mu.Unlock()
	select {
	case <-p.ended:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.past.take(key)
		return *p.exit, nil
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("wait for %q: %w", key, ctx.Err())
	case <-c.done:
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
	c.mu.Lock()
	h := c.held[key]
	if h == nil {
		h = &held{}
		c.held[key] = h
	}
	h.hold(holds)
	c.mu.Unlock()
	if _, err := c.repeat(ctx, wire.KindHold, r, sent); err != nil {
		return fmt.Errorf("hold %q: %w", key, err)
	}
	return nil
}

// Forget drops what is kept under key: exit record and descriptors, here and in the keeper. A process
// that runs goes on; nobody tells its exit any more. It may be called twice, and for unknown keys.
func (c *Client) Forget(ctx context.Context, key string) error {
	c.mu.Lock()
	if h := c.held[key]; h != nil {
		delete(c.held, key)
		h.close()
	}
	c.past.take(key)
	c.mu.Unlock()
	if _, err := c.repeat(ctx, wire.KindForget, &wire.Record{Key: key}, nil); err != nil {
		return fmt.Errorf("forget %q: %w", key, err)
	}
	return nil
}

// Close disconnects and closes what the client holds; keeper and processes go on. It may be called twice.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.mu.Lock()
		l := c.link
		c.end()
		c.mu.Unlock()
		if l != nil {
			l.conn.Close()
		}
		c.wg.Wait()
		c.closeHeld()
	})
	return nil
}

// end marks the client closed. c.mu is held.
func (c *Client) end() {
	if !c.closed {
		c.closed = true
		close(c.changed)
		close(c.done)
	}
}

// Shutdown ends the keeper, and with it the client, when it keeps nothing; otherwise it returns ErrKept,
// and both go on.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := c.repeat(ctx, wire.KindShutdown, &wire.Record{Key: "-"}, nil)
	if err != nil {
		return fmt.Errorf("shut down keeper: %w", err)
	}
	return errors.Join(c.Close(), c.removeSocket(ctx))
}

// repeat makes a call that may be made twice, as often as a keeper dies under it.
func (c *Client) repeat(ctx context.Context, kind wire.Kind, r *wire.Record, files []int) (wire.Result, error) {
	for {
		a := c.call(ctx, &call{kind: kind, child: -1}, r, files)
		if !errors.Is(a.err, errLost) {
			return a.result, a.err
		}
	}
}

// call sends a request and waits for its answer. errLost: the connection ended first.
func (c *Client) call(ctx context.Context, cl *call, r *wire.Record, files []int) answer {
	if err := r.Check(); err != nil {
		return refusal(err)
	}
	l, err := c.linked(ctx)
	if err != nil {
		return refusal(err)
	}
	return c.callOn(ctx, l, cl, r, files)
}

func (c *Client) callOn(ctx context.Context, l *link, cl *call, r *wire.Record, files []int) answer {
	cl.reply, cl.key = make(chan answer, 1), r.Key
	c.mu.Lock()
	if l.ended {
		c.mu.Unlock()
		return refusal(errLost)
	}
	c.last++
	id := c.last
	l.calls[id] = cl
	c.mu.Unlock()
	// When the keeper is gone the receiver sees it as well, and answers for all calls.
	err := l.conn.Send(wire.Message{Kind: cl.kind, ID: id, Body: r.Append(nil), Files: files})
	if err != nil && !gone(err) {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(l.calls, id)
		return refusal(err)
	}
	select {
	case a := <-cl.reply:
		return a
	case <-ctx.Done():
		return answer{err: ctx.Err(), pidfd: -1, open: true}
	}
}

func gone(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed)
}

// linked waits until there is a connection.
func (c *Client) linked(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, changed, closed := c.link, c.changed, c.closed
		c.mu.Unlock()
		switch {
		case closed:
			return nil, ErrClosed
		case l != nil:
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for keeper: %w", ctx.Err())
		}
	}
}

// use makes l the connection that calls go to, unless it has ended already.
func (c *Client) use(l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || l.ended {
		return false
	}
	c.link, c.pid = l, l.pid
	close(c.changed)
	c.changed = make(chan struct{})
	return true
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

func (c *Client) path(name string) string { return filepath.Join(c.cfg.Dir, name) }
