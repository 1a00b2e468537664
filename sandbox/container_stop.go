package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/keeper"
)

const (
	killSignal = unix.SIGKILL
	// killTime is how long a killed process may take to end. What takes longer hangs
	// in the kernel (an I/O error, a dead file server).
	killTime = 10 * time.Second
	// promptTime is how long the first process of a PID namespace usually takes at most
	// to end, with all others in it. Then the cgroup is looked at too.
	promptTime = 500 * time.Millisecond
	// recordTime is how long the keeper may take to tell of an end that the kernel
	// has told already: it drains the streams first, for half a second.
	recordTime = 2 * time.Second
)

// StopContainer ends a container: its stop signal, a grace period, SIGKILL. With
// no grace it is killed at once. Unknown ids and containers that don't run are a
// success.
//
// There is one stop a container, which goes on when ctx ends: further calls join
// it, and can only shorten its grace period.
func (cs *containers) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	c, err := cs.index.container(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err := cs.stop(ctx, c, grace); err != nil {
		return err
	}
	return cs.plugins.stoppedNow(ctx, c)
}

// stopping is the stop of one container under way.
type stopping struct {
	containers *containers
	c          *container
	done       chan struct{}
	err        error // valid after done

	mu       sync.Mutex
	deadline time.Time     // when the grace period ends
	sooner   chan struct{} // has a token when deadline moved
}

func (cs *containers) stop(ctx context.Context, c *container, grace time.Duration) error {
	s := cs.joinStop(c, time.Now().Add(max(grace, 0)))
	if s == nil {
		return nil
	}
	select {
	case <-s.done:
		if s.err != nil {
			return fmt.Errorf("stop container %s: %w", c.id, s.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop container %s: %w", c.id, context.Cause(ctx))
	}
}

// joinStop returns the stop that is under way, or a new one; nil when there is
// nothing to stop.
func (cs *containers) joinStop(c *container, deadline time.Time) *stopping {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	if s := c.stopping; s != nil {
		s.shorten(deadline)
		return s
	}
	if c.record.State != ContainerRunning && c.record.State != containerStarting {
		return nil
	}
	s := &stopping{containers: cs, c: c, done: make(chan struct{}), deadline: deadline, sooner: make(chan struct{}, 1)}
	if !cs.tasks.goes(s.run) {
		s.err = ErrClosed
		close(s.done)
		return s
	}
	c.stopping = s
	return s
}

// shorten moves the end of the grace period, if that makes it earlier.
func (s *stopping) shorten(deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !deadline.Before(s.deadline) {
		return
	}
	s.deadline = deadline
	select {
	case s.sooner <- struct{}{}:
	default:
	}
}

// left is what is left of the grace period.
func (s *stopping) left() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.deadline)
}

// signal sends the stop signal. Another runtime knows which of its processes is to get it; when it doesn't
// succeed, it is the container's first process.
func (s *stopping) signal(ctx context.Context, proc *process, sig unix.Signal) error {
	f, err := s.containers.runtimes.foreignOf(s.c.pod)
	if err == nil && f != nil {
		err = f.signal(ctx, s.c, sig)
	} else {
		return proc.signal(sig)
	}
	if err != nil && proc.alive() {
		s.containers.log.WithFields(logrus.Fields{"container": s.c.id, "error": err}).Warn("runtime did not send the stop signal")
		return proc.signal(sig)
	}
	return nil
}

func (s *stopping) run(ctx context.Context) {
	// A stop's grace period is no reason for the daemon to stay: kubelet asks the next one again.
	ctx, cancel := with(ctx, s.containers.closing)
	defer cancel()
	s.err = s.stop(ctx)
	s.c.pod.mu.Lock()
	s.c.stopping = nil
	s.c.pod.mu.Unlock()
	close(s.done)
}

func (s *stopping) stop(ctx context.Context) error {
	if err := s.awaitStart(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	proc := s.c.running()
	if proc == nil {
		return nil
	}
	defer proc.release()
	began := time.Now()
	if s.left() > 0 {
		if err := s.signal(ctx, proc, unix.Signal(s.c.now().StopSignal)); err != nil {
			return err
		}
		s.containers.log.WithFields(logrus.Fields{"container": s.c.id, "pid": proc.pid}).Debug("stop signal sent")
	}
	ended, err := s.grace(ctx, s.c.ended)
	if err != nil {
		return err
	}
	if !ended {
		err = s.kill(ctx, proc)
	}
	s.containers.log.WithFields(logrus.Fields{"container": s.c.id, "took": time.Since(began)}).Debug("container stopped")
	return err
}

// awaitStart waits for a start under way, and breaks it off at the end of the
// grace period.
func (s *stopping) awaitStart(ctx context.Context) error {
	s.c.pod.mu.Lock()
	starting := s.c.starting
	s.c.pod.mu.Unlock()
	if starting == nil {
		return nil
	}
	done, err := s.grace(ctx, starting.done)
	if done || err != nil {
		return err
	}
	starting.cancel(fmt.Errorf("container %s is being stopped: %w", s.c.id, ErrState))
	select {
	case <-starting.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// grace waits for end, as long as the grace period lasts, and says whether it came.
func (s *stopping) grace(ctx context.Context, end <-chan struct{}) (bool, error) {
	for {
		left := s.left()
		if left <= 0 {
			select {
			case <-end:
				return true, nil
			default:
				return false, nil
			}
		}
		timer := time.NewTimer(left)
		select {
		case <-end:
			timer.Stop()
			return true, nil
		case <-ctx.Done():
			timer.Stop()
			return false, context.Cause(ctx)
		case <-timer.C:
		case <-s.sooner:
			timer.Stop()
		}
	}
}

// kill ends a container by force. It needs no keeper: the kernel says when the
// process is gone, and what the keeper doesn't tell in time is booked without it.
func (s *stopping) kill(ctx context.Context, proc *process) error {
	if err := proc.signal(killSignal); err != nil {
		return err
	}
	killing, cancel := context.WithTimeoutCause(ctx, killTime, errStillAlive)
	defer cancel()
	gone := s.kernelSaysEnded(killing, proc)
	if s.c.ownPIDs() {
		prompt := time.NewTimer(promptTime)
		defer prompt.Stop()
		select {
		case <-s.c.ended: // most often: no need to ask the kernel
			return nil
		case <-gone:
		case <-prompt.C:
		}
	}
	path := s.c.now().Cgroup
	err := s.containers.host.killCgroup(killing, path)
	select {
	case <-s.c.ended:
		return err
	case <-killing.Done():
	case <-gone:
	}
	if proc.alive() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.containers.stillAlive(path, proc.pid)
	}
	timer := time.NewTimer(recordTime)
	defer timer.Stop()
	select {
	case <-s.c.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		s.containers.exits.exited(s.c, keeper.Exit{Key: s.c.id, Status: syscall.WaitStatus(killSignal), Known: true, At: time.Now()})
	}
	return err
}

// stillAlive says what of a cgroup, and of a process that was in it, survives.
func (cs *containers) stillAlive(path string, pid int) error {
	pids := []int{pid}
	if group := cs.host.cgroup(path); group != nil {
		if all, err := group.Processes(); err == nil && len(all) > 0 {
			pids = all
		}
	}
	return survivors(pids)
}

// kernelSaysEnded returns a channel that closes when the process has ended, or ctx.
func (s *stopping) kernelSaysEnded(ctx context.Context, proc *process) <-chan struct{} {
	ended := make(chan struct{})
	go func() { // ends with the process, or ctx
		defer close(ended)
		if err := proc.wait(ctx); err != nil && ctx.Err() == nil {
			s.containers.log.WithFields(logrus.Fields{"pid": proc.pid, "error": err}).Warn("end of process not seen")
		}
	}()
	return ended
}
