package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/seccomp"
	"github.com/berth-runtime/berth/sandbox/keeper"
)

// errLaunched: the launch is over, and with it what was done at its gates.
var errLaunched = errors.New("the launch is over")

// launchAttended runs a launch in the keeper, and serves the process at its gates
// meanwhile. An attendant that fails fails the launch: its error is the reason then.
func (hs *hooks) launchAttended(ctx context.Context, l *oci.Launch, in keeper.Launch, a oci.Attendant) (*keeper.Process, error) {
	gate, err := l.Gate()
	if err != nil {
		return nil, err
	}
	if gate == nil {
		p, err := hs.parts.Keeper.Launch(ctx, in)
		return p, explain(l, err)
	}
	attending, end := context.WithCancelCause(ctx)
	defer end(nil)
	met := make(chan error, 1)
	go func() { // ends with the gate
		met <- gate.Attend(attending, a)
	}()
	p, err := hs.parts.Keeper.Launch(ctx, in)
	// Our copy of the process's end would keep the gate from ending with its other.
	err = errors.Join(err, l.Close())
	if err != nil {
		end(errLaunched)
	}
	failure := <-met
	switch {
	case errors.Is(err, keeper.ErrInterrupted), failure == nil, errors.Is(failure, errLaunched):
		return p, explain(l, err)
	case p != nil: // it was quicker than its listener
		proc := newProcess(p.PID, p.PidFD)
		failure = errors.Join(failure, proc.signal(killSignal))
		proc.release()
	}
	return nil, failure
}

// dialListener connects to the listener of a seccomp profile that refers calls to one;
// nil when it doesn't.
func dialListener(ctx context.Context, profile *specs.LinuxSeccomp) (*oci.Listener, error) {
	if profile == nil || profile.ListenerPath == "" {
		return nil, nil // what refers calls has to say to whom
	}
	f, err := seccomp.Compile(profile)
	if err != nil || !f.Notify {
		return nil, err
	}
	return oci.DialListener(ctx, profile.ListenerPath)
}

// execAttendant is who an exec meets: the listener of the container's filter, if it has
// one. The caller calls hangUp after the launch.
func (hs *hooks) execAttendant(ctx context.Context, c *container, s *specs.Spec, first int) (a oci.Attendant, hangUp func(), err error) {
	listener, err := dialListener(ctx, s.Linux.Seccomp)
	if err != nil || listener == nil {
		return a, func() {}, err
	}
	a.Listener = func(_ context.Context, pid int, f *os.File) error {
		defer f.Close()
		return listener.Send(hs.processState(c, s, specs.StateRunning, pid, first), f)
	}
	return a, listener.Close, nil
}

// processState is what a seccomp listener is told of a process; first is the
// container's first one.
func (hs *hooks) processState(c *container, s *specs.Spec, status specs.ContainerState, pid, first int) specs.ContainerProcessState {
	return specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid,
		Metadata: s.Linux.Seccomp.ListenerMetadata, State: hs.ociState(c, s, status, first),
	}
}

// unfit are what execve(2) says of a program that isn't there or isn't one, and of its arguments. All else
// is the node's trouble.
var unfit = []error{
	unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.EACCES, unix.ELOOP, unix.ENAMETOOLONG, unix.ENOEXEC, unix.ELIBBAD, unix.E2BIG,
}

// explain says what the step does at which a launch failed, and of a process's program that can't be
// executed that it is an ErrCommand.
func explain(l *oci.Launch, err error) error {
	err = l.Explain(err)
	var step *oci.StepError
	if errors.As(err, &step) && step.Executes && slices.Contains(unfit, step.Errno) {
		return fmt.Errorf("%w: %w", ErrCommand, err)
	}
	return err
}
