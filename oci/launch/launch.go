package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// StepError is a program that did not reach its end: the index of the step that failed, and why.
type StepError struct {
	Step  int
	Errno syscall.Errno
}

func (e *StepError) Error() string {
	return fmt.Sprintf("launch step %d: %s", e.Step, e.Errno.Error())
}

// Unwrap returns the errno.
func (e *StepError) Unwrap() error { return e.Errno }

// ErrDied is a program that did not reach its end because a signal ended its process.
var ErrDied = errors.New("the process was killed before its execve")

// Launcher starts children. Its methods may be called from several goroutines at once.
type Launcher struct {
	turns chan struct{} // one for each zygote that may be there

	mu     sync.Mutex
	idle   []*zygote
	closed bool

	sheets sheets
}

// New returns a launcher with up to that many zygotes, 1 or more. They are made when they are first needed, so
// that they belong to the cgroup that this process is in then.
func New(zygotes int) *Launcher {
	return &Launcher{turns: make(chan struct{}, zygotes)}
}

// Close ends the zygotes; the children live on. No Start may be under way, or come after it.
func (l *Launcher) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, z := range l.idle {
		z.close()
	}
	l.idle, l.closed = nil, true
	l.sheets.close()
}

// take gives a zygote to use alone, until it is given back. A new one shares the sheets, which must be there.
func (l *Launcher) take() (*zygote, error) {
	l.turns <- struct{}{} // in its turn: one is given back as soon as a child exists
	l.mu.Lock()
	if n := len(l.idle); n > 0 {
		z := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		return z, nil
	}
	l.mu.Unlock()
	z, err := hatchZygote()
	if err != nil {
		<-l.turns
	}
	return z, err
}

// giveBack takes a zygote back, unless it is good for nothing any more.
func (l *Launcher) giveBack(z *zygote, err error) {
	if errors.Is(err, errZygote) {
		z.close()
	} else {
		l.mu.Lock()
		l.idle = append(l.idle, z)
		l.mu.Unlock()
	}
	<-l.turns
}

// fork makes the child of a program. A zygote that somebody has killed is replaced.
func (l *Launcher) fork(p *program.Program, d descriptors, files []int, note *sheet, arrived arrival) (pid, pidfd int, err error) {
	for {
		z, err := l.take()
		if err != nil {
			return 0, -1, err
		}
		blob, err := encode(p, d, z.base, note, arrived)
		if err != nil {
			l.giveBack(z, nil)
			return 0, -1, err
		}
		pid, pidfd, err := z.run(blob, files)
		l.giveBack(z, err)
		if !errors.Is(err, errGone) {
			return pid, pidfd, err
		}
	}
}

// Child is a process that walks a program.
type Child struct {
	// PID is the child's, in this process's PID namespace.
	PID int
	// PidFD refers to it (close-on-exec); it is the caller's to close.
	PidFD  int
	status *os.File
	note   *sheet // nil: nothing is noted
	times  *Times

	arrived arrival
}

// Start makes a child of this process that walks the program. files[i] is the descriptor of slot i; they stay open
// here, and the child has no others but 0 to 2. Start returns as soon as the child exists, and its id maps are
// written; Wait tells how it fared.
//
// Errors: files don't match the slots, the program is too long (E2BIG), clone3 refuses (ENOSPC: too many namespaces,
// EAGAIN: too many processes), an id map is refused. Then there is no child. When a zygote was killed at this very
// moment there may be one: it is in the program's cgroup, or about to fail.
func (l *Launcher) Start(p *program.Program, files []int) (*Child, error) {
	return l.start(p, files, false)
}

// StartTimed is Start for a child that notes when it began which step: Child.Times.
func (l *Launcher) StartTimed(p *program.Program, files []int) (*Child, error) {
	return l.start(p, files, true)
}

func (l *Launcher) start(p *program.Program, files []int, timed bool) (_ *Child, err error) {
	if len(files) != len(p.Slots) {
		return nil, fmt.Errorf("launch program with %d slots: %d descriptors given", len(p.Slots), len(files))
	}
	if err := l.sheets.make(); err != nil {
		return nil, err
	}
	c := &Child{}
	if timed {
		c.note = l.sheets.take(len(p.Steps))
	}
	c.arrived = l.sheets.await()
	defer func() {
		if err != nil {
			c.note.release()
			c.arrived.end()
		}
	}()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make status pipe: %w", err)
	}
	defer unix.Close(pipe[1])
	give := append(append(make([]int, 0, len(files)+2), files...), pipe[1])
	mapped := p.Clone.Flags&unix.CLONE_NEWUSER != 0
	var sync [2]int
	if mapped {
		if err := unix.Pipe2(sync[:], unix.O_CLOEXEC); err != nil {
			unix.Close(pipe[0])
			return nil, fmt.Errorf("make sync pipe: %w", err)
		}
		defer unix.Close(sync[0])
		defer unix.Close(sync[1])
		give = append(give, sync[0])
	}
	if c.PID, c.PidFD, err = l.fork(p, number(len(files), mapped), give, c.note, c.arrived); err != nil {
		unix.Close(pipe[0])
		return nil, err
	}
	c.status = os.NewFile(uintptr(pipe[0]), "launch status")
	if mapped {
		if err := c.mapIDs(p, sync[1]); err != nil {
			return nil, errors.Join(err, c.abort())
		}
	}
	return c, nil
}

// mapIDs writes the child's id maps (user_namespaces(7)) and lets it go.
func (c *Child) mapIDs(p *program.Program, sync int) error {
	dir := "/proc/" + strconv.Itoa(c.PID)
	if err := os.WriteFile(dir+"/uid_map", []byte(p.Clone.UIDMap), 0); err != nil {
		return fmt.Errorf("map users: %w", err)
	}
	if err := os.WriteFile(dir+"/gid_map", []byte(p.Clone.GIDMap), 0); err != nil {
		return fmt.Errorf("map groups: %w", err)
	}
	if _, err := unix.Write(sync, []byte{1}); err != nil {
		return fmt.Errorf("release child: %w", err)
	}
	return nil
}

// abort ends a child that was not let go, and reaps it.
func (c *Child) abort() error {
	err := unix.PidfdSendSignal(c.PidFD, unix.SIGKILL, nil, 0)
	_, werr := unix.Wait4(c.PID, nil, 0, nil)
	if errors.Is(werr, unix.ECHILD) {
		werr = nil // somebody reaps all children; so be it
	}
	return errors.Join(err, werr, unix.Close(c.PidFD), c.status.Close())
}

// Wait blocks until the child's execve, its end, or its first failed step; call it once. It returns the
// process that now runs: c.PID, or the one that the program made by clone3(CLONE_PARENT), another
// child of this process; then c.PID ends with 0 by itself. A failed step is a *StepError; the process
// ends with 127. A signal that ends it before its execve is ErrDied.
func (c *Child) Wait() (pid int, err error) {
	defer c.status.Close()
	defer c.timed()
	pid = c.PID
	defer func() {
		if died := c.arrived.end(); died && err == nil {
			err = fmt.Errorf("process %d: %w", pid, ErrDied)
		}
	}()
	var buf [statusLen]byte
	for {
		if _, err := io.ReadFull(c.status, buf[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return pid, nil
			}
			return pid, fmt.Errorf("read launch status of process %d: %w", pid, err)
		}
		m := (*status)(unsafe.Pointer(&buf))
		switch m.kind {
		case statusAdopted:
			pid = int(m.value)
		default:
			return pid, &StepError{Step: int(m.value), Errno: syscall.Errno(m.errno)}
		}
	}
}

// timed reads the times of a child that writes no more.
func (c *Child) timed() {
	if c.note != nil {
		c.times = c.note.times(mark())
		c.note.release()
		c.note = nil
	}
}

// Times says when the launch did what, once Wait has returned; nil: it was not timed.
func (c *Child) Times() *Times { return c.times }
