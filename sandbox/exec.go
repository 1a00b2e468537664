package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

const (
	// maxExecOutput is what is kept of an exec's output, in each stream and in both
	// together: CRI asks for 16 MB, and its clients take messages of 16 MiB, whose
	// other fields have to fit too.
	maxExecOutput = 16<<20 - 4096
	// drainTime is how long output is awaited after an exec's end: its children may
	// hold the pipe for ever.
	drainTime = 500 * time.Millisecond
)

// sessions are what clients do in what runs: execs, attaches, port-forwards.
type sessions struct {
	*base
	builder  *specBuilder
	hooks    *hooks
	runtimes *runtimes
}

// ExecSync runs a command in a running container (ErrState otherwise) and returns
// what it wrote and how it ended. A timeout of 0 is none; one that passes kills
// the command and all its descendants, and the error is ErrTimeout. They are killed too
// when ctx ends. ErrBusy: it did not come to its turn.
func (ss *sessions) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (*ExecResult, error) {
	c, err := ss.index.container(id)
	if err != nil {
		return nil, err
	}
	if len(cmd) == 0 {
		return nil, &spec.FieldError{Field: "cmd", Rule: "must not be empty"}
	}
	ctx, stop := with(ctx, ss.closing)
	defer stop()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no end after %s: %w", timeout, ErrTimeout))
		defer cancel()
	}
	leave, err := c.execs.take(ctx, ss.cfg.MaxExecs, timeout > 0)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", c.config.Metadata.Name, err)
	}
	defer leave()
	result, err := ss.exec(ctx, c, cmd)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", c.config.Metadata.Name, err)
	}
	return result, nil
}

func execKey(id string) string { return "exec-" + id }

func (ss *sessions) exec(ctx context.Context, c *container, cmd []string) (*ExecResult, error) {
	target := c.running()
	if target == nil {
		return nil, stateError("container", c.id, c.now().State)
	}
	defer target.release()
	stdout, outEnd, err := collect()
	if err != nil {
		return nil, err
	}
	defer stdout.close()
	defer outEnd.Close()
	stderr, errEnd, err := collect()
	if err != nil {
		return nil, err
	}
	defer stderr.close()
	defer errEnd.Close()
	key := execKey(newID())
	exec, err := ss.launchExec(ctx, c, execCommand{target: target, key: key, args: cmd, stdout: outEnd, stderr: errEnd, bounded: true})
	if err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	defer exec.proc.release()
	// Ours must go, or the pipes never end.
	outEnd.Close()
	errEnd.Close()
	exit, err := ss.parts.Keeper.Wait(ctx, key)
	if err != nil {
		return nil, errors.Join(context.Cause(ctx), err, exec.kill(), exec.finish())
	}
	if err := exec.finish(); err != nil {
		return nil, err
	}
	result := &ExecResult{ExitCode: exitCode(exit)}
	result.Stdout, result.Stderr = stdout.drain(), stderr.drain()
	result.trim(maxExecOutput)
	return result, nil
}

// trim cuts the longer stream, so that both together have no more than most bytes;
// of two long ones each keeps half.
func (r *ExecResult) trim(most int) {
	long, short := &r.Stdout, &r.Stderr
	if len(*short) > len(*long) {
		long, short = short, long
	}
	if len(*long)+len(*short) <= most {
		return
	}
	*short = (*short)[:min(len(*short), most/2)]
	*long = (*long)[:most-len(*short)]
}

// exitCode is the exit code that clients see.
func exitCode(exit keeper.Exit) int32 {
	rec := containerRecord{}
	bookExit(&rec, exit, false)
	return rec.ExitCode
}

// execCommand is what an exec runs, and where.
type execCommand struct {
	target                *process // in whose container
	key                   string   // the keeper's
	args                  []string
	stdin, stdout, stderr *os.File // the command's ends; nil: /dev/null
	bounded               bool     // to kill it is to kill all its descendants
	terminal              *oci.Terminal
}

func (ss *sessions) launchExec(ctx context.Context, c *container, in execCommand) (*execution, error) {
	f, err := ss.runtimes.foreignOf(c.pod)
	if err != nil {
		return nil, err
	}
	if f != nil {
		return f.exec(ctx, c, in.key, in.args, oci.Command{Stdin: in.stdin, Stdout: in.stdout, Stderr: in.stderr, Terminal: in.terminal})
	}
	s, err := ss.builder.specOf(c)
	if err != nil {
		return nil, err
	}
	l, err := ss.parts.Programs.PrepareExec(oci.Exec{
		Process: spec.ExecProcess(s, in.args, in.terminal != nil), Linux: s.Linux, PidFD: in.target.pidfd,
		UserNamespace: c.pod.config.Security.Namespaces.OwnUser() != nil,
		Stdin:         in.stdin, Stdout: in.stdout, Stderr: in.stderr, Terminal: in.terminal,
		Cgroup: ss.host.cgroup(c.now().Cgroup), Reaper: in.bounded,
	})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	attendant, hangUp, err := ss.hooks.execAttendant(ctx, c, s, in.target.pid)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	proc, err := ss.hooks.launchAttended(ctx, l, keeper.Launch{Key: in.key, Program: l.Program, Files: l.Files, Oneshot: true}, attendant)
	if err != nil {
		return nil, err
	}
	p := newProcess(proc.PID, proc.PidFD)
	kill := p.killGroup
	if in.bounded {
		kill = func() error { return p.killTree(ctx) }
	}
	return &execution{proc: p, kill: kill, finish: func() error { return nil }}, nil
}

// collector keeps what is written to a pipe, up to a bound, and swallows the rest.
type collector struct {
	output
	wg   sync.WaitGroup
	data []byte // valid after wg
}

// collect makes a pipe and begins to read it. The caller closes the other end,
// once the command has it.
func collect() (*collector, *os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	c := &collector{output: output{file: read}}
	c.wg.Go(func() { // ends with the pipe's writers, or its deadline
		c.data, _ = io.ReadAll(io.LimitReader(&c.output, maxExecOutput)) // what came before an error counts
		_, _ = io.Copy(io.Discard, &c.output)
	})
	return c, write, nil
}

// drain waits for the pipe's end, for a short time, and returns what came.
func (c *collector) drain() []byte {
	c.finish(drainTime)
	c.wg.Wait()
	return c.data
}

// close ends the reading.
func (c *collector) close() {
	c.file.Close()
	c.wg.Wait()
}
