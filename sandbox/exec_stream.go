package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// Exec runs a command in a running container (ErrState otherwise), with a client's
// streams as its own, and returns its exit code. It may do so while the container
// is being stopped: preStop hooks want that.
//
// A client that goes away ends the command's input, and a terminal hangs up; the
// command itself goes on until it ends, as it would without berth's doing. It is
// killed, with its process group, when ctx ends or the daemon does.
func (ss *sessions) Exec(ctx context.Context, id string, cmd []string, s Streams) (int32, error) {
	c, err := ss.index.container(id)
	if err != nil {
		return 0, err
	}
	if len(cmd) == 0 {
		return 0, &spec.FieldError{Field: "cmd", Rule: "must not be empty"}
	}
	ctx, stop := with(ctx, ss.closing)
	defer stop()
	leave, err := c.execs.take(ctx, ss.cfg.MaxExecs, false)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", c.config.Metadata.Name, err)
	}
	defer leave()
	code, err := ss.execStreams(ctx, c, cmd, s)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", c.config.Metadata.Name, err)
	}
	return code, nil
}

// RunningContainer returns the full id of a running container; ErrState when it doesn't
// run.
func (ss *sessions) RunningContainer(id string) (string, error) {
	c, err := ss.index.container(id)
	if err != nil {
		return "", err
	}
	proc := c.running()
	if proc == nil {
		return "", stateError("container", c.id, c.now().State)
	}
	proc.release()
	return c.id, nil
}

func (ss *sessions) execStreams(ctx context.Context, c *container, cmd []string, s Streams) (int32, error) {
	target := c.running()
	if target == nil {
		return 0, stateError("container", c.id, c.now().State)
	}
	defer target.release()
	session := &session{log: ss.log, streams: s}
	defer session.close()
	in := execCommand{target: target, args: cmd, key: execKey(newID())}
	if err := session.open(ss, c, &in); err != nil {
		return 0, err
	}
	exec, err := ss.launchExec(ctx, c, in)
	if err != nil {
		return 0, errors.Join(context.Cause(ctx), err)
	}
	defer exec.proc.release()
	session.resized = exec.resize
	session.run()
	exit, err := ss.parts.Keeper.Wait(ctx, in.key)
	if err != nil {
		return 0, errors.Join(context.Cause(ctx), err, exec.kill(), exec.finish())
	}
	if err := exec.finish(); err != nil {
		return 0, err
	}
	session.drain()
	return exitCode(exit), nil
}

// session is the daemon's side of a process's streams.
type session struct {
	log     logrus.FieldLogger
	streams Streams
	resized func(TerminalSize) error // has what else is to know of the terminal's size; nil: nobody

	input   *os.File // what the process reads: a pipe's write end, or the terminal's master
	outputs []passing
	process []*os.File // the process's ends, to be closed once it has them
	done    chan struct{}
	passes  sync.WaitGroup
}

type passing struct {
	from *output
	to   io.Writer
}

// open makes the pipes, or the terminal.
func (s *session) open(ss *sessions, c *container, in *execCommand) error {
	s.done = make(chan struct{})
	if s.streams.TTY {
		return s.openTerminal(ss, c, in)
	}
	if s.streams.Stdin != nil {
		read, write, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make pipe for stdin: %w", err)
		}
		in.stdin, s.input = read, write
		s.process = append(s.process, read)
	}
	for _, p := range []struct {
		to  io.Writer
		end **os.File
	}{{s.streams.Stdout, &in.stdout}, {s.streams.Stderr, &in.stderr}} {
		if p.to == nil {
			continue // /dev/null
		}
		read, write, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make pipe for output: %w", err)
		}
		*p.end = write
		s.process = append(s.process, write)
		s.outputs = append(s.outputs, passing{&output{file: read}, p.to})
	}
	return nil
}

// terminalFor makes the terminal of an exec: in the container, or where another runtime makes that, one of the host's for
// the runtime's own process.
func (ss *sessions) terminalFor(c *container, target *process, built *specs.Spec) (*oci.Terminal, error) {
	f, err := ss.runtimes.foreignOf(c.pod)
	if err != nil {
		return nil, err
	}
	if f != nil {
		return oci.TerminalFor(&specs.Spec{})
	}
	return ss.host.joinTerminal(target, built)
}

func (s *session) openTerminal(ss *sessions, c *container, in *execCommand) error {
	built, err := ss.builder.specOf(c)
	if err != nil {
		return err
	}
	t, err := ss.terminalFor(c, in.target, built)
	if err != nil {
		return err
	}
	in.terminal = t
	s.process = append(s.process, t.Slave)
	s.input = t.Master
	reader, err := duplicate(t.Master)
	if err != nil {
		return fmt.Errorf("read terminal: %w", err)
	}
	s.outputs = append(s.outputs, passing{&output{file: reader}, s.streams.Stdout})
	return nil
}

// run begins to copy. What reads of the client ends with the client's streams, the
// rest with the process.
func (s *session) run() {
	for _, f := range s.process {
		f.Close() // the streams end with the process's own
	}
	s.process = nil
	for _, p := range s.outputs {
		s.passes.Go(func() { pass(p.to, p.from) })
	}
	if s.streams.Stdin != nil {
		go s.feed() // ends with the client's stream
	}
	if s.streams.TTY && s.streams.Resize != nil {
		go s.follow() // ends with the session
	}
}

// feed copies the client's input. Its end is the command's; a terminal has none.
func (s *session) feed() {
	_, err := io.Copy(s.input, s.streams.Stdin)
	if !s.streams.TTY {
		s.input.Close()
	}
	if err != nil {
		s.log.WithFields(logrus.Fields{"op": "read standard input", "error": err}).Debug("client's stream broke")
	}
}

// follow sets the terminal's size, and hangs it up when the client is gone.
func (s *session) follow() {
	for {
		select {
		case size, ok := <-s.streams.Resize:
			if !ok {
				s.hangUp()
				return
			}
			err := resize(s.input, size)
			if s.resized != nil {
				err = errors.Join(err, s.resized(size))
			}
			if err != nil {
				s.log.WithFields(logrus.Fields{"op": "resize terminal", "error": err}).Debug("terminal not resized")
			}
		case <-s.done:
			return
		}
	}
}

// hangUp closes the terminal: the kernel tells its processes (SIGHUP, tty(4)).
func (s *session) hangUp() {
	for _, p := range s.outputs {
		p.from.file.Close()
	}
	s.input.Close()
}

// drain passes on what is left when the process has ended. Its children may hold
// the streams for ever: more than what is there is awaited for a short time only.
func (s *session) drain() {
	for _, p := range s.outputs {
		p.from.finish(drainTime)
	}
	s.passes.Wait()
}

// close ends the session. The client's streams are the caller's.
func (s *session) close() {
	close(s.done)
	for _, f := range s.process {
		f.Close()
	}
	for _, p := range s.outputs {
		p.from.file.Close()
	}
	if s.input != nil {
		s.input.Close()
	}
}
