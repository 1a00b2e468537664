package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// Gate is where a launch's process stops on its way for others to do their part: hooks run while it waits,
// and the listener of its seccomp filter is fetched.
//
//	launched process                        Gate.Attend
//	"create" ─────────────────────────────▶ Attendant.Hooks(create)
//	                    ◀── one byte ────── no error
//	"start" ──────────────────────────────▶ Attendant.Hooks(start)
//	                    ◀── one byte ────── no error
//	"listener", descriptor ───────────────▶ Attendant.Listener
//	execve closes its end ────────────────▶ Attend returns
//
// On an error the gate closes, and a process that waits there ends: the launch fails.
type Gate struct{ conn *net.UnixConn }

// Attendant is what is done at a gate. pid is the launched process's, in this process's PID namespace.
type Attendant struct {
	// Hooks runs the hooks of a gate (KindsAt).
	Hooks func(ctx context.Context, gate string, pid int) error
	// Listener gets the descriptor of the seccomp filter's listener, and closes it.
	Listener func(ctx context.Context, pid int, listener *os.File) error
}

// Gate returns the launch's gate, nil when its program never stops. It is the caller's to attend, once; when
// Attend is not called, Close of the launch closes it.
func (l *Launch) Gate() (*Gate, error) {
	if l.gate == nil {
		return nil, nil
	}
	c, err := net.FileConn(l.gate)
	if err == nil {
		err = l.closeGate()
	}
	if err != nil {
		return nil, fmt.Errorf("open the launch's gate: %w", err)
	}
	return &Gate{c.(*net.UnixConn)}, nil
}

func (l *Launch) closeGate() error {
	if l.gate == nil {
		return nil
	}
	err := l.gate.Close()
	l.gate = nil
	return err
}

// gate makes the socket pair of slot "gate".
func (b *bag) gate(wanted bool) error {
	if !wanted {
		return nil
	}
	ours, childs, err := SocketPair()
	if err != nil {
		return err
	}
	b.give(program.GateSlot, childs)
	// The kernel says who sends, by the number that we know it by (unix(7), SO_PASSCRED).
	if err := unix.SetsockoptInt(int(ours.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return errors.Join(fmt.Errorf("make the launch's gate: %w", err), ours.Close())
	}
	b.talk = ours
	return nil
}

// Attend serves the process until it is past all gates or gone. It needs that nobody else here holds the
// process's end: close the launch as soon as the launcher has it. It returns the error of the attendant that
// failed, or ctx's cause; the gate is closed in any case.
func (g *Gate) Attend(ctx context.Context, a Attendant) error {
	defer g.conn.Close()
	stop := context.AfterFunc(ctx, func() { g.conn.Close() }) // ends the read below
	defer stop()
	for {
		word, pid, listener, err := g.receive()
		if ctx.Err() != nil {
			closeFile(listener)
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("attend the launch's gate: %w", err)
		}
		if word == program.SayListener && listener != nil {
			if err := a.Listener(ctx, pid, listener); err != nil {
				return err
			}
			continue
		}
		closeFile(listener)
		if err := a.Hooks(ctx, word, pid); err != nil {
			return err
		}
		if _, err := g.conn.Write([]byte{1}); err != nil {
			return fmt.Errorf("open the gate %s: %w", word, err)
		}
	}
}

// receive reads one message; io.EOF says that the process's end is closed.
func (g *Gate) receive() (word string, pid int, listener *os.File, err error) {
	text, control := make([]byte, 64), make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4))
	n, oobn, _, _, err := g.conn.ReadMsgUnix(text, control)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return "", 0, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:oobn])
	if err != nil {
		return "", 0, nil, err
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil && len(fds) == 1 {
			listener = os.NewFile(uintptr(fds[0]), "seccomp listener")
		}
		if who, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			pid = int(who.Pid)
		}
	}
	if pid == 0 {
		closeFile(listener)
		return "", 0, nil, errors.New("a message of nobody's")
	}
	return string(text[:n]), pid, listener, nil
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
