package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/oci/program"
	"github.com/berth-runtime/berth/sandbox/keeper/journal"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// Launch runs a program in a child of the keeper and returns when it reached its execve (or its end).
// The client duplicates what it keeps; all files stay the caller's, and the child's ends of pipes are to
// be closed by the caller, for a stream ends when the last of them is closed.
//
// Errors: a failed step is one that wraps *launch.StepError. ErrKeyInUse; ErrInterrupted: the keeper
// died meanwhile. When ctx ends first, the process is killed and ctx's error returned. After any error
// nothing is kept under the key but what Hold put there before.
func (c *Client) Launch(ctx context.Context, l Launch) (*Process, error) {
	p, err := c.launch(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("launch %q: %w", l.Key, err)
	}
	return p, nil
}

func (c *Client) launch(ctx context.Context, l Launch) (*Process, error) {
	prog, err := sealProgram(l.Program)
	if err != nil {
		return nil, err
	}
	defer closeAll(prog)
	h, err := l.hold()
	if err != nil {
		return nil, err
	}
	r := &wire.Record{Key: l.Key, HasProgram: true, Slots: len(l.Files), Oneshot: l.Oneshot}
	fds := []int{prog}
	for _, f := range l.Files {
		// Fd makes the file blocking, which a container's standard streams have to be: os.Pipe's ends are not.
		fds = append(fds, int(f.Fd()))
	}
	fds = appendHolds(r, h.process.appendStreams(r, fds), h.holds)
	cl := &call{kind: wire.KindLaunch, launch: h, child: -1}
	a := c.call(ctx, cl, r, fds)
	switch {
	case a.err == nil:
		return &Process{PID: a.result.PID, PidFD: os.NewFile(uintptr(a.pidfd), "pidfd")}, nil
	case errors.Is(a.err, errLost):
		a.err = ErrInterrupted
	case a.open:
		c.abort(l.Key, cl)
	}
	h.close()
	return nil, a.err
}

// abort gives a launch up that nobody waits for any more.
func (c *Client) abort(key string, cl *call) {
	c.mu.Lock()
	l := c.link
	pending := false
	if l != nil {
		for id, other := range l.calls {
			if other == cl { // its answer, should it still come, finds nobody
				pending = true
				delete(l.calls, id)
			}
		}
	}
	if h := c.held[key]; h != nil && h.process == cl.launch.process { // the answer was quicker than we
		h.process = nil
		if len(h.holds) == 0 {
			delete(c.held, key)
		}
	}
	c.mu.Unlock()
	if !pending {
		closeAll((<-cl.reply).pidfd)
	}
	closeAll(cl.child)
	if l != nil {
		r := &wire.Record{Key: key}
		_ = l.conn.Send(wire.Message{Kind: wire.KindAbort, Body: r.Append(nil)}) // without a keeper it was killed by lost
	}
}

// launched holds a process that was launched. The lock is held.
func (c *Client) launched(cl *call, r wire.Result, m wire.Message) answer {
	if len(m.Files) != 1 {
		m.CloseFiles()
		return refusal(errKept)
	}
	dups, err := dupAll(m.Files)
	if err != nil {
		m.CloseFiles()
		return refusal(err)
	}
	p := cl.launch.process
	p.pid, p.pidfd = r.PID, m.Files[0]
	h := c.held[cl.key]
	if h == nil {
		h = &held{}
		c.held[cl.key] = h
	}
	h.process = p
	h.hold(cl.launch.holds)
	cl.launch.holds = nil
	c.past.take(cl.key)
	return answer{result: r, pidfd: dups[0]}
}

// hold duplicates what is held of a launch: streams, log, held descriptors, and makes the journals.
func (l *Launch) hold() (*held, error) {
	if l.MaxLine < 0 || l.MaxLine > journal.MaxLine {
		return nil, fmt.Errorf("cut lines after %d bytes: %w", l.MaxLine, unix.EINVAL)
	}
	p := newProcess()
	p.oneshot, p.maxLine = l.Oneshot, l.MaxLine
	h := &held{process: p}
	var err error
	if h.holds, err = dupFiles(l.Hold); err != nil {
		return nil, err
	}
	add := func(to *[]int, fd int, derr error) {
		if derr != nil {
			err = derr
			return
		}
		*to = append(*to, fd)
	}
	if l.Log != nil {
		fd, derr := dupFile(l.Log)
		add(&p.logs, fd, derr)
	}
	for _, s := range l.Streams {
		p.names = append(p.names, s.Name)
		fd, derr := dupFile(s.File)
		add(&p.streams, fd, derr)
		if l.Log != nil {
			fd, derr = journal.Create()
			add(&p.journals, fd, derr)
		}
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// sealProgram writes a program's wire form into a memfd that nobody can change any more.
func sealProgram(p *program.Program) (int, error) {
	b, err := p.Marshal()
	if err != nil {
		return -1, fmt.Errorf("marshal program: %w", err)
	}
	return seal("berth-program", b, 0)
}

// Reopen makes another file the log of the process under key (opened as Launch.Log is): what was being
// written goes whole into the old one, what comes after into the new one. It returns when the keeper
// went over; on an error (the old file's disk is full: ENOSPC) the old one stays. A line longer than
// MaxLine may have its later pieces in the new file.
func (c *Client) Reopen(ctx context.Context, key string, log *os.File) error {
	c.mu.Lock()
	h := c.held[key]
	if h == nil || h.process == nil || len(h.process.logs) == 0 {
		c.mu.Unlock()
		return fmt.Errorf("reopen log of %q: %w", key, ErrUnknownKey)
	}
	p := h.process
	c.mu.Unlock()
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
	c.mu.Lock()
	if len(p.logs) == 0 { // forgotten meanwhile
		c.mu.Unlock()
		closeAll(fd)
		return ErrUnknownKey
	}
	p.logs = append(p.logs, fd)
	p.generation++
	r := &wire.Record{Key: key, Generation: p.generation, Logs: 1}
	c.mu.Unlock()
	a := c.call(ctx, &call{kind: wire.KindReopen, child: -1}, r, sent)
	if errors.Is(a.err, errLost) {
		// The next keeper gets both files, completes the old one and goes over by itself.
		_, a.err = c.linked(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p.logs) < 2 { // forgotten meanwhile
		return ErrUnknownKey
	}
	if a.err != nil {
		closeAll(p.logs[1])
		p.logs = p.logs[:1]
		p.generation--
		return a.err
	}
	closeAll(p.logs[0])
	p.logs = p.logs[1:]
	return nil
}
