package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/keeper"
)

// Attach connects a client to the process of a running container (ErrState
// otherwise): it gets what the process writes from now on, and its input is the
// process's. It returns when the container has ended or the client is gone. A
// client that ends its input has ended the session, but where that ends the
// process's input too: then it gets all that still comes.
//
// Clients slow neither the container nor its log. One that is so slow that the
// keeper can't keep all for it gets ErrBehind; on a terminal, where it matters what
// the screen shows now, it is told how much it missed, and goes on.
func (ss *sessions) Attach(ctx context.Context, id string, s Streams) error {
	c, err := ss.index.container(id)
	if err != nil {
		return err
	}
	ctx, stop := with(ctx, ss.closing)
	defer stop()
	if err := ss.attachStreams(ctx, c, s); err != nil {
		return fmt.Errorf("attach to container %s: %w", c.config.Metadata.Name, err)
	}
	return nil
}

func (ss *sessions) attachStreams(ctx context.Context, c *container, s Streams) error {
	input, err := c.openInput()
	if err != nil {
		return err
	}
	a := &onlooker{sessions: ss, c: c, streams: s, input: input}
	a.ctx, a.leave = context.WithCancelCause(ctx)
	defer a.close()
	defer a.leave(nil)
	if err := a.look(); err != nil {
		return err
	}
	a.begin()
	seen := make(chan error, 1)
	go func() { seen <- a.wait() }() // ends with the views, which end with the pipes
	select {
	case err = <-seen:
		return err
	case <-a.ctx.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// errLeft is why a session ends whose client has gone.
var errLeft = errors.New("client has left")

// openInput opens what feeds the process, for one client; nil: nothing does.
// ErrState: the container does not run.
func (c *container) openInput() (*os.File, error) {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	if c.record.State != ContainerRunning {
		return nil, stateError("container", c.id, c.record.State)
	}
	if c.input == nil {
		return nil, nil
	}
	return duplicate(c.input)
}

// onlooker is one client's session with a container's process.
type onlooker struct {
	sessions *sessions
	c        *container
	streams  Streams
	input    *os.File // nil: the process has none
	ctx      context.Context
	leave    context.CancelCauseFunc // ends the session
	views    []*view
	heard    atomic.Int64 // bytes that the client was given
	passes   sync.WaitGroup
}

// look opens the views, before the client's first byte can have an answer.
func (a *onlooker) look() error {
	wanted := []struct {
		name string
		to   io.Writer
	}{{"stdout", a.streams.Stdout}, {"stderr", a.streams.Stderr}}
	if a.c.config.TTY {
		wanted = wanted[:1]
	}
	for _, w := range wanted {
		if w.to == nil {
			continue
		}
		v := &view{a: a, name: w.name, to: &hearing{w.to, &a.heard}}
		err := v.open()
		if errors.Is(err, keeper.ErrUnknownKey) {
			continue // the process has closed it
		}
		if err != nil {
			return err
		}
		a.views = append(a.views, v)
	}
	return nil
}

// begin starts to copy.
func (a *onlooker) begin() {
	for _, v := range a.views {
		a.passes.Go(v.run)
	}
	if a.streams.Stdin != nil && a.input != nil && a.c.config.Stdin {
		go a.feed() // ends with the client's stream
	}
	if a.c.config.TTY && a.streams.Resize != nil {
		go a.follow() // ends with the client's stream, or the session
	}
}

// wait returns when the process has ended, or every view. Without a view it is the
// process that is waited for.
func (a *onlooker) wait() error {
	if len(a.views) == 0 {
		select {
		case <-a.c.ended:
		case <-a.ctx.Done():
		}
	}
	a.passes.Wait()
	var errs []error
	for _, v := range a.views {
		errs = append(errs, v.err)
	}
	return errors.Join(errs...)
}

// feed copies the client's input. CRI's stdin_once ends the process's own with the
// first client's; a terminal can't be closed so.
func (a *onlooker) feed() {
	_, err := io.Copy(a.input, a.streams.Stdin)
	if err != nil {
		a.sessions.log.WithFields(logrus.Fields{"container": a.c.id, "op": "attach", "error": err}).Debug("client's input broke")
	}
	if a.c.config.StdinOnce && !a.c.config.TTY {
		a.input.Close()
		a.sessions.endInput(a.c)
		return
	}
	a.hearAnswer()
	a.leave(errLeft)
}

// How long a client stays whose input has ended: until nothing was said for a pause, and at most so long.
const (
	answerPause = 200 * time.Millisecond
	answerTime  = 2 * time.Second
)

// hearAnswer waits for what the client's last words bring, for who only has a pipe to say them with.
func (a *onlooker) hearAnswer() {
	pause := time.NewTicker(answerPause)
	defer pause.Stop()
	for end, before := time.Now().Add(answerTime), int64(-1); time.Now().Before(end); {
		if now := a.heard.Load(); now != before {
			before = now
		} else {
			return
		}
		select {
		case <-pause.C:
		case <-a.ctx.Done():
			return
		}
	}
}

// hearing counts what a client is given.
type hearing struct {
	to    io.Writer
	bytes *atomic.Int64
}

// Write is of io.Writer.
func (h *hearing) Write(p []byte) (int, error) {
	n, err := h.to.Write(p)
	h.bytes.Add(int64(n))
	return n, err
}

// endInput closes a process's standard input everywhere, for good.
func (ss *sessions) endInput(c *container) {
	c.pod.mu.Lock()
	open := c.input != nil
	c.closeInputLocked()
	c.pod.mu.Unlock()
	if !open {
		return
	}
	ctx, cancel := context.WithTimeout(ss.tasks.base, cleanTime)
	defer cancel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err == nil {
		defer null.Close()
		err = ss.parts.Keeper.Hold(ctx, c.id, map[string]*os.File{heldInput: null})
	}
	if err != nil {
		ss.log.WithFields(logrus.Fields{"container": c.id, "op": "close standard input", "error": err}).Warn("process does not see its input's end")
	}
}

// follow sets the terminal's size.
func (a *onlooker) follow() {
	for {
		select {
		case size, ok := <-a.streams.Resize:
			if !ok {
				a.leave(errLeft)
				return
			}
			if err := resize(a.input, size); err != nil {
				a.sessions.log.WithFields(logrus.Fields{"container": a.c.id, "op": "resize terminal", "error": err}).Debug("terminal not resized")
			}
		case <-a.ctx.Done():
			return
		}
	}
}

// close ends what is still being copied. The client's streams are the caller's.
func (a *onlooker) close() {
	for _, v := range a.views {
		v.close()
	}
	if a.input != nil {
		a.input.Close()
	}
	if a.c.config.StdinOnce && !a.c.config.TTY && a.streams.Stdin != nil {
		a.sessions.endInput(a.c)
	}
}

// view is one stream of the process, as a client sees it.
type view struct {
	a        *onlooker
	name     string
	to       io.Writer
	position int64 // in the stream, of the next byte; 0: none yet
	err      error // valid when run has returned

	mu     sync.Mutex
	pipe   *os.File
	closed bool
}

// open has the keeper copy the stream into a new pipe, from where the last one
// ended.
func (v *view) open() error {
	read, position, err := v.a.sessions.parts.Keeper.Attach(v.a.ctx, v.a.c.id, v.name, v.position)
	if err != nil {
		return err
	}
	missed := position - v.position
	if v.position == 0 {
		missed = 0
	}
	v.position = position
	v.mu.Lock()
	v.pipe = read
	if v.closed {
		read.Close()
	}
	v.mu.Unlock()
	return v.gap(missed)
}

// gap tells the client of bytes that it was too slow for.
func (v *view) gap(missed int64) error {
	if missed <= 0 {
		return nil
	}
	if !v.a.c.config.TTY {
		return fmt.Errorf("%d bytes of %s are missing: %w", missed, v.name, ErrBehind)
	}
	_, err := fmt.Fprintf(v.to, "\r\n[%d bytes skipped: this connection is too slow for them]\r\n", missed)
	return err
}

// run copies until the stream ends, the session, or the client takes no more. A
// pipe may end without the stream: the keeper died, or cut it.
func (v *view) run() {
	for {
		n, err := io.Copy(v.to, &output{file: v.pipe})
		v.position += n
		v.pipe.Close()
		if err == nil {
			err = v.open()
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, keeper.ErrUnknownKey), v.a.ctx.Err() != nil: // the stream has ended, or the session
		case errors.Is(err, ErrBehind):
			v.err = err
		default: // the client takes no more
			v.a.leave(errLeft)
		}
		return
	}
}

func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	if v.pipe != nil {
		v.pipe.Close()
	}
}
