package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/program"
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

// explain says what the step does at which the launch of a container's process failed, and whether its
// configuration is at fault: ErrCommand, ErrPath.
func explain(l *oci.Launch, err error) error {
	err = l.Explain(err)
	var step *oci.StepError
	if !errors.As(err, &step) {
		return err
	}
	switch step.Fault {
	case program.FaultCommand:
		return fmt.Errorf("%w: %w", ErrCommand, err)
	case program.FaultPath:
		return fmt.Errorf("%w: %w", ErrPath, err)
	}
	return err
}
