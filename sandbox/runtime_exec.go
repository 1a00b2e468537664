package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// execution is a process that was launched in a container.
type execution struct {
	proc *process
	// kill ends it with its process group, or with all its descendants, and finish frees what it had once it has ended; the error is
	// that of a command that could not be executed at all.
	kill   func() error
	finish func() error
	// resize tells a terminal of the command's own its size; nil: it has none beside the client's.
	resize func(TerminalSize) error
}

// exec begins a command in a container. The runtime's process stays, and ends as the command does. On a terminal, which is one
// of the host's, it passes on what comes between that and the one that it makes inside.
func (f *foreign) exec(ctx context.Context, c *container, key string, cmd []string, io oci.Command) (*execution, error) {
	s, err := f.runtimes.builder.specOf(c)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(f.runtimes.parts.Programs.Clamp(spec.ExecProcess(s, cmd, io.Terminal != nil)))
	if err != nil {
		return nil, fmt.Errorf("write process: %w", err)
	}
	base := filepath.Join(f.bundle(c), key)
	process, pid, log := base+".json", base+".pid", base+".log"
	finish := func() error {
		var err error
		if words := f.words(log); words != "" {
			err = fmt.Errorf("%s exec: %s", f.name, words)
		}
		for _, path := range []string{process, pid, log} {
			if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
		return err
	}
	if err := os.WriteFile(process, text, 0o600); err != nil {
		return nil, fmt.Errorf("write process: %w", err)
	}
	proc, err := f.launch(ctx, command{key: key, log: log, args: []string{"exec", "--process=" + process, "--pid-file=" + pid, c.id}, Command: io}, nil)
	if err != nil {
		return nil, errors.Join(err, finish())
	}
	// The runtime's own tree too: until it has written the pid file, what it made inside is known by nothing else.
	e := &execution{proc: proc, finish: finish, kill: func() error { return errors.Join(killExec(ctx, pid), proc.killTree(ctx)) }}
	if io.Terminal != nil {
		e.resize = func(to TerminalSize) error { return resizeExec(pid, to) }
	}
	return e, nil
}

// resizeExec tells the terminal of the process that an exec became its size. runc does so by itself when that of its own
// terminal changes, crun (1.8 at least) only at the beginning.
//
// The terminal is what the process has as its standard input: its descriptor is copied (pidfd_getfd(2), Linux 5.6), not opened
// by its name, for it is the container's to choose what that is.
func resizeExec(pidFile string, to TerminalSize) error {
	inside, err := openProcess(pidFile)
	if err != nil {
		return nil // not there yet: it begins with the size of its runtime's
	}
	defer inside.PidFD.Close()
	fd, err := unix.PidfdGetfd(int(inside.PidFD.Fd()), 0, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EBADF) {
		return nil // it has ended, or closed its input
	}
	if err != nil {
		return fmt.Errorf("copy terminal of process %d: %w", inside.PID, err)
	}
	terminal := os.NewFile(uintptr(fd), "terminal")
	defer terminal.Close()
	if err := resize(terminal, to); err != nil && !errors.Is(err, unix.ENOTTY) {
		return err
	}
	return nil
}

// killExec kills the process that an exec became inside, which the end of the runtime's would leave alone, and its
// descendants: all but those whose parents have ended, which are the container's first process's children then.
func killExec(ctx context.Context, pidFile string) error {
	inside, err := openProcess(pidFile)
	if err != nil {
		return nil // it did not come to that, or is gone
	}
	proc := newProcess(inside.PID, inside.PidFD)
	defer proc.release()
	return proc.killTree(ctx)
}
