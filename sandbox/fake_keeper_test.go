package sandbox

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/keeper"
)

// keptFake is what the fake keeper has under a key.
type keptFake struct {
	pid     int
	pidfd   *os.File
	files   map[string]*os.File
	exit    *keeper.Exit
	ended   chan struct{}
	oneshot bool

	mu     sync.Mutex
	output bytes.Buffer // what it wrote to its streams
	taps   []*os.File
}

type fakeKeeper struct{ *daemon }

func (k fakeKeeper) Launch(ctx context.Context, l keeper.Launch) (*keeper.Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := k.at("launch " + kind(l.Key)); err != nil {
		return nil, err
	}
	command := k.command
	if k := kind(l.Key); k == "exec" || k == "runtime" {
		command = l.Program.Slots
	}
	if kind(l.Key) == "namespaces" {
		command = []string{"true"}
	}
	k.mu.Lock()
	before := k.kept[l.Key]
	k.mu.Unlock()
	if before != nil && before.pid != 0 && before.exit == nil {
		return nil, keeper.ErrKeyInUse
	}
	cmd := exec.Command(command[0], command[1:]...)
	fd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &fd}
	if len(l.Files) == 3 { // nil stands for /dev/null, here as there
		if l.Files[0] != nil {
			cmd.Stdin = l.Files[0]
		}
		if l.Files[0] != nil && l.Files[0] == l.Files[1] { // a terminal, and the session's
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, PidFD: &fd}
		}
		cmd.Stdout, cmd.Stderr = l.Files[1], l.Files[2]
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &keptFake{pid: cmd.Process.Pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), files: map[string]*os.File{}, ended: make(chan struct{}), oneshot: l.Oneshot}
	for name, f := range l.Hold {
		p.files[name], _ = dup(f)
	}
	for _, s := range l.Streams {
		if err := p.read(s.File); err != nil {
			return nil, err
		}
	}
	k.mu.Lock()
	k.kept[l.Key] = p
	k.groups = append(k.groups, p.pid)
	k.mu.Unlock()
	own, err := dup(p.pidfd)
	if err != nil {
		return nil, err
	}
	go func() { // ends with the process
		_ = cmd.Wait()
		k.reaped(l.Key, p, cmd.ProcessState.Sys().(syscall.WaitStatus))
	}()
	return &keeper.Process{PID: p.pid, PidFD: own}, nil
}

// Adopt is for other runtimes' processes, of which this world has none.
func (k fakeKeeper) Adopt(context.Context, keeper.Launch, *keeper.Process) error {
	return errors.New("nothing to adopt")
}

// read reads what a process writes.
func (p *keptFake) read(stream *os.File) error {
	own, err := dup(stream)
	if err != nil {
		return err
	}
	go func() { // ends with the process's end of the stream
		defer own.Close()
		buf := make([]byte, 4096)
		for {
			n, err := own.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.output.Write(buf[:n])
			for _, t := range p.taps {
				_, _ = t.Write(buf[:n])
			}
			p.mu.Unlock()
		}
	}()
	return nil
}

// written is what a process has written so far.
func (p *keptFake) written() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// reaped tells the daemon that is connected now, if one is.
func (w *world) reaped(key string, p *keptFake, status syscall.WaitStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.exit = &keeper.Exit{Key: key, Status: status, Known: true, At: time.Now()}
	close(p.ended)
	p.cut()
	if w.connected != nil {
		w.connected.exits <- *p.exit
	}
}

// kind is what a key of the keeper's stands for.
func kind(key string) string {
	for _, k := range []string{"namespaces", "pod", "pause", "exec", "runtime"} {
		if len(key) > len(k) && key[:len(k)+1] == k+"-" {
			return k
		}
	}
	return "container"
}

// dup leaves the file's mode alone, as Fd does not.
func dup(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(cerr, err); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (k fakeKeeper) Wait(ctx context.Context, key string) (keeper.Exit, error) {
	k.mu.Lock()
	p := k.kept[key]
	k.mu.Unlock()
	select {
	case <-p.ended:
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.kept, key)
		return *p.exit, nil
	case <-ctx.Done():
		return keeper.Exit{}, ctx.Err()
	}
}

func (k fakeKeeper) Exits() <-chan keeper.Exit { return k.exits }

func (k fakeKeeper) Kept() (out []keeper.Kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, p := range k.kept {
		one := keeper.Kept{Key: key, PID: p.pid, Exit: p.exit, Files: map[string]*os.File{}}
		if p.pidfd != nil {
			one.PidFD, _ = dup(p.pidfd)
		}
		for name, f := range p.files {
			one.Files[name], _ = dup(f)
		}
		out = append(out, one)
	}
	return out
}

func (k fakeKeeper) Hold(_ context.Context, key string, files map[string]*os.File) error {
	return k.do("hold", func() {
		p := k.kept[key]
		if p == nil {
			p = &keptFake{files: map[string]*os.File{}}
			k.kept[key] = p
		}
		for name, f := range files {
			if old := p.files[name]; old != nil {
				old.Close()
			}
			p.files[name], _ = dup(f)
		}
	})
}

func (k fakeKeeper) Forget(_ context.Context, key string) error {
	return k.do("forget", func() { delete(k.kept, key) })
}

// Attach counts positions from 4096 on, as the journals do.
func (k fakeKeeper) Attach(_ context.Context, key, stream string, position int64) (pipe *os.File, at int64, err error) {
	pipe, write, err := os.Pipe()
	if err != nil {
		return nil, 0, err
	}
	at = -1
	err = k.do("attach", func() {
		if p := k.kept[key]; p != nil && p.exit == nil {
			at = p.attach(position, write)
		}
	})
	if err == nil && at < 0 {
		err = keeper.ErrUnknownKey
	}
	if at < 0 {
		pipe.Close()
		write.Close()
		return nil, 0, err
	}
	return pipe, at, err
}

func (p *keptFake) attach(position int64, pipe *os.File) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := int64(4096 + p.output.Len())
	if position < 4096 || position > end {
		position = end
	}
	_, _ = pipe.Write(p.output.Bytes()[position-4096:])
	p.taps = append(p.taps, pipe)
	return position
}

// cut ends all taps, as the keeper's death does.
func (p *keptFake) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.taps {
		t.Close()
	}
	p.taps = nil
}

func (k fakeKeeper) Reopen(_ context.Context, key string, log *os.File) error {
	return k.do("reopen", func() {
		if p := k.kept[key]; p != nil {
			_, _ = log.WriteString(p.written())
		}
	})
}
