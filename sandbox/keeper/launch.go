package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

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
	p, holds, err := l.hold()
	if err != nil {
		return nil, err
	}
	r := &wire.Record{Key: l.Key, HasProgram: true, Slots: len(l.Files), Oneshot: l.Oneshot, Timed: l.Timed}
	fds := []int{prog}
	for _, f := range l.Files {
		// Fd makes the file blocking, which a container's standard streams have to be: os.Pipe's ends are not.
		fds = append(fds, int(f.Fd()))
	}
	fds = appendHolds(r, p.appendStreams(r, fds), holds)
	cl := &call{kind: wire.KindLaunch, launch: p, holds: holds, child: -1}
	a, link := c.line.call(ctx, cl, r, fds)
	switch {
	case a.err == nil:
		return &Process{PID: a.result.PID, PidFD: os.NewFile(uintptr(a.pidfd), "pidfd"), Times: a.result.Times}, nil
	case errors.Is(a.err, errLost):
		a.err = ErrInterrupted
	case a.open:
		c.abort(link, cl)
	}
	p.close()
	closeMap(cl.holds)
	return nil, a.err
}

// abort gives a launch up that nobody waits for any more.
func (c *Client) abort(l *link, cl *call) {
	if !l.withdraw(cl) { // the answer was quicker than we
		closeAll((<-cl.reply).pidfd)
		c.holdings.undo(cl.key, cl.launch)
	}
	closeAll(cl.child)
	r := &wire.Record{Key: cl.key}
	_ = l.conn.Send(wire.Message{Kind: wire.KindAbort, Body: r.Append(nil)}) // without a keeper lost killed it
}

// hold duplicates what is held of a launch: streams, log, held descriptors, and makes the journals.
func (l *Launch) hold() (p *heldProcess, holds map[string]int, err error) {
	if l.MaxLine < 0 || l.MaxLine > journal.MaxLine {
		return nil, nil, fmt.Errorf("cut lines after %d bytes: %w", l.MaxLine, unix.EINVAL)
	}
	if holds, err = dupFiles(l.Hold); err != nil {
		return nil, nil, err
	}
	p = newProcess()
	p.oneshot, p.maxLine = l.Oneshot, l.MaxLine
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
		fd, derr = journal.Create() // without a log too: others may look on
		add(&p.journals, fd, derr)
	}
	if err == nil && slices.ContainsFunc(p.streams, noPipe) {
		for range p.streams {
			fd, derr := journal.CreateRelay()
			add(&p.relays, fd, derr)
		}
	}
	if err != nil {
		p.close()
		closeMap(holds)
		return nil, nil, err
	}
	return p, holds, nil
}

// noPipe says whether a stream takes a relay to be read without loss.
func noPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO
}

// sealProgram writes a program's wire form into a memfd that nobody can change any more.
func sealProgram(p *program.Program) (int, error) {
	b, err := p.Marshal()
	if err != nil {
		return -1, fmt.Errorf("marshal program: %w", err)
	}
	return seal("berth-program", b, 0)
}
