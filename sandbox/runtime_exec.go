package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
}

// exec begins a command in a container. The runtime's process stays, and ends as the command does.
func (f *foreign) exec(ctx context.Context, c *container, key string, cmd []string, io oci.Command) (*execution, error) {
	s, err := f.runtimes.builder.specOf(c)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(f.runtimes.parts.Programs.Clamp(spec.ExecProcess(s, cmd, false)))
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
	return &execution{proc: proc, finish: finish, kill: func() error { return errors.Join(killExec(ctx, pid), proc.killGroup()) }}, nil
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
