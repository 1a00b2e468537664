package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// startErrorCode is the exit code of a container that could not be started, as
// containerd has it.
const startErrorCode = 128

// StartContainer starts a created container (ErrState otherwise). When that fails,
// the container has exited, with code 128 and reason StartError, and can't be
// started again. A call while another's work goes on joins it.
func (cs *containers) StartContainer(ctx context.Context, id string) error {
	c, err := cs.index.container(id)
	if err != nil {
		return err
	}
	_, err = cs.tasks.do(ctx, "start container "+c.id, startTime, func(ctx context.Context) (string, error) {
		return "", cs.startContainer(ctx, c)
	})
	if err != nil {
		return fmt.Errorf("start container %s: %w", c.config.Metadata.Name, err)
	}
	return nil
}

// start is the start of one container.
type start struct {
	containers *containers
	c          *container
	cancel     context.CancelCauseFunc // a forced stop ends the start by it
	done       chan struct{}           // closed when it has succeeded or failed

	tx      transaction
	spec    *specs.Spec
	files   []*os.File // of this start only: ends of pipes, log, image volumes
	input   *os.File   // what feeds the process, the container's once it runs; nil: nothing does
	process *process
}

func (cs *containers) startContainer(ctx context.Context, c *container) error {
	began := time.Now()
	ctx, stop := with(ctx, c.pod.life)
	defer stop()
	leave, err := c.pod.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s := &start{containers: cs, c: c, done: make(chan struct{}), tx: transaction{watch: startWatch()}}
	ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	if err := cs.beginStart(c, s); err != nil {
		return err
	}
	defer s.end()
	if err := s.up(ctx); err != nil {
		return errors.Join(err, s.down(ctx, err))
	}
	cs.stocks.busy()
	cs.log.WithFields(logrus.Fields{
		"pod": c.pod.id, "container": c.id, "pid": s.process.pid, "took": time.Since(began),
	}).Info("container started")
	return nil
}

func (cs *containers) beginStart(c *container, s *start) error {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	if err := cs.moveLocked(c, containerStart, nil); err != nil {
		return err
	}
	c.starting = s
	return nil
}

// end lets go of what only the start needed.
func (s *start) end() {
	for _, f := range s.files {
		f.Close()
	}
	s.closeInput()
	s.c.pod.mu.Lock()
	s.c.starting = nil
	s.c.spec = nil // of many containers nobody asks for it again: it has 9 KB
	s.c.pod.mu.Unlock()
	close(s.done)
}

// up does the steps.
func (s *start) up(ctx context.Context) error {
	leave, any := s.containers.plugins.enter()
	defer leave()
	if err := s.tx.run(ctx, s.makeCgroup()); err != nil {
		return err
	}
	if any {
		if err := s.tx.run(ctx, s.askPlugins()); err != nil {
			return err
		}
	}
	if err := s.tx.sequence(ctx, s.launch(), s.poststart()); err != nil {
		return err
	}
	restored := s.c.record.Restore != nil // asked before an exit may be booked
	s.started()
	if restored {
		if err := s.containers.dropCheckpoint(s.c); err != nil {
			s.containers.log.WithFields(logrus.Fields{"container": s.c.id, "error": err}).Warn("checkpoint not removed")
		}
	}
	if any {
		if err := s.containers.plugins.tell(ctx, PluginStarted, s.c); err != nil {
			s.containers.log.WithFields(logrus.Fields{"container": s.c.id, "op": "tell plugins", "error": err}).Warn("plugin failed")
		}
	}
	return nil
}

// askPlugins tells of the start, which they may refuse. The caller has entered.
func (s *start) askPlugins() step {
	told := s.containers.plugins
	return step{
		name: "ask plugins",
		do:   func(ctx context.Context) error { return told.tell(ctx, PluginStart, s.c) },
		undo: func(ctx context.Context) error {
			s.c.stopTold.Do(func() { told.over(ctx, PluginStop, s.c) })
			return nil
		},
	}
}

// started books a start, and the end of the process should that have come first.
func (s *start) started() {
	cs, c, proc := s.containers, s.c, s.process
	c.pod.mu.Lock()
	c.process, c.input = proc, s.input
	s.input = nil
	err := cs.moveLocked(c, containerStarted, func(rec *containerRecord) {
		rec.PID, rec.StartedAt = proc.pid, time.Now()
	})
	early := c.early
	c.early = nil
	c.pod.mu.Unlock()
	if err != nil { // the table has no such case: who starts is alone in it
		cs.log.WithFields(logrus.Fields{"container": c.id, "error": err}).Error("start not booked")
	}
	if early != nil {
		cs.exits.exited(c, *early)
	}
}

// down undoes the steps and books the failure.
func (s *start) down(ctx context.Context, cause error) error {
	err := s.tx.rollback(ctx)
	s.containers.hooks.afterStop(ctx, s.c)
	return errors.Join(err, s.containers.moveContainer(s.c, containerStartFailed, func(rec *containerRecord) {
		rec.FinishedAt = time.Now()
		rec.ExitCode, rec.Reason, rec.Message = startErrorCode, ReasonStartError, cause.Error()
	}))
}

func (s *start) makeCgroup() step {
	return step{
		name: "make the cgroup",
		do: func(context.Context) (err error) {
			if s.spec, err = s.containers.builder.specOf(s.c); err != nil {
				return err
			}
			if s.c.group == nil { // created by an earlier daemon
				s.c.group, err = s.containers.host.createCgroup(s.c.record.Cgroup, s.spec.Linux.Resources)
			}
			return err
		},
		undo: func(ctx context.Context) error {
			return s.containers.freeCgroup(ctx, s.c.now().Cgroup)
		},
	}
}

// launch runs the container's program. When the keeper dies meanwhile it has a
// successor: then everything that the program used up is made anew, once what the
// first attempt may have become is dead.
func (s *start) launch() step {
	return step{
		name: "launch",
		do: func(ctx context.Context) error {
			err := s.tryLaunch(ctx)
			if !errors.Is(err, keeper.ErrInterrupted) {
				return err
			}
			// The lost keeper's child may be amid its program, and would go on with it.
			if err := s.containers.freeCgroup(ctx, s.c.record.Cgroup); err != nil {
				return err
			}
			if s.c.group, err = s.containers.host.createCgroup(s.c.record.Cgroup, s.spec.Linux.Resources); err != nil {
				return err
			}
			return s.tryLaunch(ctx)
		},
		undo: func(ctx context.Context) error {
			err := errors.Join(s.c.closeRoot(), s.containers.runtimes.deleteForeign(ctx, s.c), s.containers.parts.Keeper.Forget(ctx, s.c.id))
			if s.process != nil { // adopted, and not started
				s.process.release()
			}
			return err
		},
	}
}

// poststart runs the hooks that want the program running. One that fails ends it
// (runtime-spec, "Lifecycle", step 9).
func (s *start) poststart() step {
	return step{name: "run hooks", do: func(ctx context.Context) error {
		return s.containers.hooks.runHooks(ctx, s.c, s.spec, oci.Poststart, s.process.pid)
	}}
}

func (s *start) tryLaunch(ctx context.Context) (err error) {
	if s.c.root == nil {
		if s.c.root, err = s.containers.roots.mountRoot(s.c); err != nil {
			return err
		}
	}
	gathered := s.tx.watch.lap("gather namespaces, volumes and streams")
	in := oci.Container{Spec: s.spec, Root: s.c.root, Cgroup: s.c.group}
	if in.Namespaces, err = s.namespaces(); err != nil {
		return err
	}
	if in.Mounts, err = s.mounts(); err != nil {
		return err
	}
	if in.Users, err = s.mountUsers(ctx); err != nil {
		return err
	}
	out := keeper.Launch{Key: s.c.id, MaxLine: s.containers.cfg.MaxLogLine, Timed: true}
	f, err := s.containers.runtimes.foreignOf(s.c.pod)
	if err == nil {
		err = s.openOutputs(&in, &out, f != nil || s.c.record.Restore != nil)
	}
	if err != nil {
		return err
	}
	gathered()
	if s.c.record.Restore != nil {
		return s.containers.checkpoints.restore(ctx, s, in, out)
	}
	if f != nil {
		return f.start(ctx, s, in, out)
	}
	listener, err := dialListener(ctx, s.spec.Linux.Seccomp)
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close()
	}
	if needsBundle(s.spec) {
		if err := s.containers.hooks.makeBundle(s.c, s.spec); err != nil {
			return err
		}
		in.RootAt = filepath.Join(s.containers.hooks.bundle(s.c), bundleRoot)
	}
	prepared := s.tx.watch.lap("open mounts, compile the program")
	l, err := s.containers.parts.Programs.PrepareContainer(in)
	prepared()
	if err != nil {
		return err
	}
	defer l.Close()
	out.Program, out.Files = l.Program, l.Files
	ordered := launch.Now()
	proc, err := s.containers.hooks.launchAttended(ctx, l, out, s.containers.hooks.attendant(s.c, s.spec, listener))
	s.containers.programs.keepProgram(s.note(), l, ordered, proc, err)
	// The root was attached, or may have been: it serves one launch.
	err = errors.Join(err, s.c.closeRoot())
	if err != nil {
		return err
	}
	s.process = newProcess(proc.PID, proc.PidFD)
	return nil
}

// note says whose program it is.
func (s *start) note() *launchNote {
	meta, image := s.c.config.Metadata, s.c.record.Image
	return &launchNote{
		pod: s.c.pod, name: s.c.id, watch: s.tx.watch, watches: map[string]*stopwatch{"create": s.c.created, "start": s.tx.watch},
		what: fmt.Sprintf("container: %s, %s of pod %s, image %s %s", s.c.id, meta.Name, s.c.pod.title(), image.Name, image.ID),
	}
}

// namespaces are those that the container shares: its pod's, or another
// container's PID namespace.
func (s *start) namespaces() (map[specs.LinuxNamespaceType]*os.File, error) {
	out := map[specs.LinuxNamespaceType]*os.File{}
	for _, kind := range spec.JoinedNamespaces(s.spec, s.c.config) {
		f := s.c.pod.namespaces[kind]
		if n := s.c.config.Security.Namespaces; kind == specs.PIDNamespace && n.PID == spec.NamespaceTarget {
			var err error
			if f, err = s.targetPIDs(n.TargetID); err != nil {
				return nil, err
			}
			s.files = append(s.files, f)
		}
		if f == nil {
			return nil, fmt.Errorf("join %s namespace: pod %s has none", kind, s.c.pod.id)
		}
		out[kind] = f
	}
	return out, nil
}

// targetPIDs opens the PID namespace of a running container of the pod.
func (s *start) targetPIDs(id string) (*os.File, error) {
	var proc *process
	if t := s.containers.index.exactly(id); t != nil && t.pod == s.c.pod {
		proc = t.running()
	}
	if proc == nil {
		return nil, fmt.Errorf("join the PID namespace of container %s, which does not run: %w", id, ErrState)
	}
	defer proc.release()
	return s.containers.host.namespace(proc, specs.PIDNamespace)
}
