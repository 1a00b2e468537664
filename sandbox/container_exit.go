package sandbox

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/keeper"
)

// unknownExitCode is the exit code of a process whose own nobody knows.
const unknownExitCode = 255

// cleanTime bounds the cleaning up after a process.
const cleanTime = time.Minute

// exits books how containers ended, and cleans up after them.
type exits struct {
	*base
	hooks    *hooks
	runtimes *runtimes
	plugins  *plugins
}

// dispatch takes the ends of processes from the keeper until that is closed, or
// the manager.
func (m *Manager) dispatch(ctx context.Context) {
	exits := m.parts.Keeper.Exits()
	for {
		select {
		case exit, ok := <-exits:
			if !ok {
				return
			}
			m.exit(exit)
		case <-ctx.Done():
			return
		}
	}
}

// exit finds whose end it is. What takes time happens elsewhere: the next one is
// waiting.
func (m *Manager) exit(exit keeper.Exit) {
	if c := m.index.exactly(exit.Key); c != nil {
		m.tasks.goes(func(context.Context) { m.containers.exits.exited(c, exit) })
		return
	}
	if id, ok := strings.CutPrefix(exit.Key, pauseKey("")); ok {
		m.tasks.goes(func(ctx context.Context) { m.pauseEnded(ctx, id) })
		return
	}
	if strings.HasPrefix(exit.Key, execKey("")) || strings.HasPrefix(exit.Key, namespacesKey) || strings.HasPrefix(exit.Key, runtimeKeys) {
		return // oneshots: whoever launched them waits by key
	}
	if len(m.unread) > 0 {
		return // its pod may be one of them: the next daemon wants to know
	}
	m.tasks.goes(func(ctx context.Context) { m.forget(ctx, exit.Key) })
}

// exited books the end of a container's process and frees what it had. It may be
// called twice.
func (xs *exits) exited(c *container, exit keeper.Exit) {
	if xs.book(c, exit) {
		xs.plugins.stoppedSoon(c)
		xs.cleanUp(c)
	}
}

// book moves a container to its end. It is false for one whose start isn't booked
// yet: who starts it will book its end too.
func (xs *exits) book(c *container, exit keeper.Exit) bool {
	// The counter goes with the cgroup.
	oom, err := xs.host.oomKilled(c.now().Cgroup)
	if err != nil {
		xs.log.WithFields(logrus.Fields{"container": c.id, "error": err}).Warn("out-of-memory counter not read")
	}
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	switch c.record.State {
	case containerStarting:
		c.early = &exit
		return false
	case ContainerRunning:
		if err := xs.moveLocked(c, containerExit, func(rec *containerRecord) { bookExit(rec, exit, oom) }); err != nil {
			xs.log.WithFields(logrus.Fields{"container": c.id, "error": err}).Error("exit not booked")
		}
		xs.log.WithFields(logrus.Fields{"pod": c.pod.id, "container": c.id, "op": fmt.Sprintf("exit with code %d", c.record.ExitCode)}).Info("container exited")
	}
	if c.process != nil {
		c.process.release()
		c.process = nil
	}
	c.closeInputLocked()
	return true
}

// bookExit writes how a container ended.
func bookExit(rec *containerRecord, exit keeper.Exit, oom bool) {
	rec.FinishedAt = exit.At
	if exit.At.Before(rec.StartedAt) {
		// A short process ends before its start is booked, and clocks are set back.
		rec.FinishedAt = rec.StartedAt
	}
	switch {
	case !exit.Known:
		rec.ExitCode, rec.Reason = unknownExitCode, ReasonUnknown
		rec.Message = "it ended while no keeper was its parent"
	case exit.Status.Signaled():
		rec.ExitCode, rec.Reason = 128+int32(exit.Status.Signal()), ReasonError
	default:
		rec.ExitCode, rec.Reason = int32(exit.Status.ExitStatus()), ReasonError
		if rec.ExitCode == 0 {
			rec.Reason = ReasonCompleted
		}
	}
	// The kernel may have killed another process than the first, and that may have coped.
	if oom && rec.ExitCode != 0 {
		rec.Reason = ReasonOOMKilled
	}
}

// cleanUp frees what an exited container needs no more. What fails is freed by
// its removal.
func (xs *exits) cleanUp(c *container) {
	ctx, cancel := context.WithTimeout(xs.tasks.base, cleanTime)
	defer cancel()
	if err := xs.runtimes.deleteForeign(ctx, c); err != nil {
		xs.log.WithFields(logrus.Fields{"container": c.id, "error": err}).Warn("runtime did not delete the container")
	}
	if err := xs.freeEnded(ctx, c); err != nil {
		xs.log.WithFields(logrus.Fields{"container": c.id, "cgroup": c.now().Cgroup, "error": err}).Warn("cgroup not removed")
	}
	xs.hooks.poststop(ctx, c)
	xs.forget(ctx, c.id)
}

// freeCgroup kills what is left of a container and removes its cgroup. Something
// is left of containers that share a PID namespace, and of a launch during which
// the keeper died.
func (b *base) freeCgroup(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killTime, errStillAlive)
	defer cancel()
	if err := b.host.killCgroup(ctx, path); err != nil {
		return err
	}
	return b.host.deleteCgroup(ctx, path)
}

// freeEnded is freeCgroup for a container that won't be started any more: once is enough then.
func (b *base) freeEnded(ctx context.Context, c *container) error {
	if c.groupFreed.Load() {
		return nil
	}
	err := b.freeCgroup(ctx, c.now().Cgroup)
	c.groupFreed.Store(err == nil)
	return err
}

// forget lets the keeper drop what it keeps under a key.
func (b *base) forget(ctx context.Context, key string) {
	if err := b.parts.Keeper.Forget(ctx, key); err != nil {
		b.log.WithFields(logrus.Fields{"op": "forget " + key, "error": err}).Warn("keeper keeps what nobody needs")
	}
}

// pauseEnded stops a pod whose PID 1 is gone: all its containers' processes have
// died with it.
func (m *Manager) pauseEnded(ctx context.Context, podID string) {
	p, err := m.index.pod(podID)
	if err != nil || p.state() != PodReady {
		return
	}
	m.log.WithFields(logrus.Fields{"pod": podID}).Warn("pause process ended")
	if err := m.pods.StopPod(ctx, podID); err != nil {
		m.log.WithFields(logrus.Fields{"pod": podID, "error": err}).Error("pod not stopped")
	}
}
