package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// process is a process of the keeper's, held by its pidfd. Signals and the
// question whether it lives need no keeper, and can't hit another process that
// got its number.
type process struct {
	pid   int
	pidfd *os.File
	users atomic.Int32 // the descriptor closes with the last
}

// newProcess takes over pidfd; its maker is the first user.
func newProcess(pid int, pidfd *os.File) *process {
	p := &process{pid: pid, pidfd: pidfd}
	p.users.Store(1)
	return p
}

// retain adds a user; it is false when the last has gone already.
func (p *process) retain() bool {
	for {
		n := p.users.Load()
		if n == 0 {
			return false
		}
		if p.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release ends one use.
func (p *process) release() {
	if p.users.Add(-1) == 0 {
		p.pidfd.Close()
	}
}

// signal sends a signal. A process that is gone is a success.
func (p *process) signal(sig unix.Signal) error { return p.send(sig, 0) }

// pidfdSignalProcessGroup is PIDFD_SIGNAL_PROCESS_GROUP (Linux 6.9).
const pidfdSignalProcessGroup = 1 << 2

// killGroup kills the process and its process group.
func (p *process) killGroup() error {
	err := p.send(unix.SIGKILL, pidfdSignalProcessGroup)
	if !errors.Is(err, unix.EINVAL) {
		return errors.Join(err, p.signal(unix.SIGKILL))
	}
	// Before 6.9 by number: it is the process's own as long as that is not reaped.
	if p.alive() {
		err = unix.Kill(-p.pid, unix.SIGKILL)
	} else {
		err = nil
	}
	if errors.Is(err, unix.ESRCH) {
		err = nil
	}
	return errors.Join(err, p.signal(unix.SIGKILL))
}

func (p *process) send(sig unix.Signal, flags int) error {
	var err error
	if e := p.control(func(fd int) { err = unix.PidfdSendSignal(fd, sig, nil, flags) }); e != nil {
		return e
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

// alive says whether the process runs: its pidfd becomes readable when it ends
// (pidfd_open(2)), reaped or not.
func (p *process) alive() bool {
	alive := false
	err := p.control(func(fd int) { alive = !readable(fd) })
	return err == nil && alive
}

func (p *process) control(f func(fd int)) error {
	raw, err := p.pidfd.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
	if err != nil {
		return fmt.Errorf("use pidfd of process %d: %w", p.pid, err)
	}
	return nil
}

func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}

// wait returns when the process has ended, or with ctx's cause.
func (p *process) wait(ctx context.Context) error {
	// A descriptor of our own that doesn't block, so that the runtime's poller can wait for it: the
	// other one's mode is shared with the keeper (Linux 5.10 for PIDFD_NONBLOCK).
	fd, err := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK)
	if !p.alive() {
		if err == nil {
			unix.Close(fd) // perhaps another process's
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", p.pid, err)
	}
	stop := context.AfterFunc(ctx, func() { f.Close() }) // ends the Read below
	defer stop()
	err = raw.Read(func(fd uintptr) bool { return readable(int(fd)) })
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", p.pid, err)
	}
	return nil
}
