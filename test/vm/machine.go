package vm

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/berth-runtime/berth/test/vm/wire"
)

// ErrGone says that the machine ended before a program did.
var ErrGone = errors.New("the virtual machine has ended")

// ExitError is a program's exit code, or 128 and the signal that killed it.
type ExitError int

func (e ExitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Machine is a running one. Its methods may be called from several goroutines.
type Machine struct {
	dir   string
	qemu  *exec.Cmd
	said  bytes.Buffer // by qemu; to be read when it has ended
	ended chan struct{}
	conn  net.Conn
	in    *gob.Decoder

	sending sync.Mutex
	out     *gob.Encoder

	mu      sync.Mutex
	last    int
	gone    bool
	running map[int]*Command
}

// Command is a program to be run in the machine, once.
type Command struct {
	Args           []string
	Env            []string // beside PATH, HOME, TMPDIR
	Dir            string   // "": /
	Stdout, Stderr io.Writer

	exit chan wire.Exit
}

func (m *Machine) path(name string) string { return filepath.Join(m.dir, name) }

// Run runs a program to its end: an ExitError if that is not 0, ErrGone if the
// machine went first. It is killed when ctx ends.
func (m *Machine) Run(ctx context.Context, c Command) error {
	c.exit = make(chan wire.Exit, 1)
	m.mu.Lock()
	m.last++
	id := m.last
	gone := m.gone
	m.running[id] = &c
	m.mu.Unlock()
	if gone {
		return ErrGone
	}
	if err := m.send(&wire.Message{ID: id, Run: &wire.Run{Args: c.Args, Env: c.Env, Dir: c.Dir}}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = m.send(&wire.Message{ID: id, Kill: true}) }) // or it is gone, which Run sees
	defer stop()
	exit, ok := <-c.exit
	switch {
	case !ok:
		return fmt.Errorf("run %s: %w", c.Args[0], ErrGone)
	case ctx.Err() != nil:
		return fmt.Errorf("run %s: %w", c.Args[0], ctx.Err())
	case exit.Err != "":
		return fmt.Errorf("run in the virtual machine: %s", exit.Err)
	case exit.Code != 0:
		return ExitError(exit.Code)
	}
	return nil
}

// Put writes a file of this machine into the virtual one, with its mode.
func (m *Machine) Put(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("open what is to be copied: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", from, err)
	}
	piece := &wire.File{Path: to, Mode: uint32(info.Mode().Perm()), First: true}
	for buf := make([]byte, 1<<20); ; piece.First = false {
		n, err := io.ReadFull(f, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read %s: %w", from, err)
		}
		if n == 0 && !piece.First {
			return nil
		}
		piece.Data = buf[:n]
		if err := m.send(&wire.Message{File: piece}); err != nil {
			return err
		}
	}
}

func (m *Machine) send(message *wire.Message) error {
	m.sending.Lock()
	defer m.sending.Unlock()
	if err := m.out.Encode(message); err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}

// listen hands out what the guest says, until it says nothing more.
func (m *Machine) listen() {
	for {
		var message wire.Message
		if err := m.in.Decode(&message); err != nil {
			break
		}
		m.mu.Lock()
		c := m.running[message.ID]
		if message.Exit != nil {
			delete(m.running, message.ID)
		}
		m.mu.Unlock()
		switch {
		case c == nil:
		case message.Exit != nil:
			c.exit <- *message.Exit
		case message.Stream == 1 && c.Stdout != nil:
			_, _ = c.Stdout.Write(message.Data) // the program can't be told
		case message.Stream == 2 && c.Stderr != nil:
			_, _ = c.Stderr.Write(message.Data)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
	for id, c := range m.running {
		close(c.exit)
		delete(m.running, id)
	}
}

// Kill takes the machine's power away: what it had not written to its disks is lost.
// It may be called twice.
func (m *Machine) Kill() {
	if m.qemu != nil {
		_ = m.qemu.Process.Kill() // or it has ended
		<-m.ended
	}
	if m.conn != nil {
		m.conn.Close()
	}
	_ = os.RemoveAll(m.dir) // in the cache, which make clean removes
}

// Console is the end of what the kernel and PID 1 said.
func (m *Machine) Console() string {
	text, err := os.ReadFile(m.path("console"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
