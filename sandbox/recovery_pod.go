package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// Why a pod that was ready is no more.
var (
	errRebooted = errors.New("the node has been rebooted")
	errLost     = errors.New("the keeper does not hold it")

	errPauseEnded = errors.New("the pause process has ended")
)

// descriptors takes over what the keeper holds for a pod. The error says why a
// ready pod can't go on.
func (r *recovery) descriptors(p *pod) error {
	kept, _ := r.take(podKey(p.id))
	p.namespaces = map[specs.LinuxNamespaceType]*os.File{}
	for name, f := range kept.Files {
		if name == heldShm {
			p.shm = f
		} else {
			p.namespaces[specs.LinuxNamespaceType(name)] = f
		}
	}
	if p.record.Boot != r.m.boot {
		return errRebooted
	}
	for _, kind := range podNamespaces(p.config) {
		if p.namespaces[kind] == nil {
			return fmt.Errorf("%s namespace: %w", kind, errLost)
		}
	}
	if p.shm == nil && p.config.Security.Namespaces.IPC != spec.NamespaceNode {
		return fmt.Errorf("/dev/shm: %w", errLost)
	}
	if !sharesPIDs(p.config) {
		return nil
	}
	return r.pause(p)
}

// pause takes over PID 1 of a shared PID namespace.
func (r *recovery) pause(p *pod) error {
	kept, _ := r.take(pauseKey(p.id))
	if kept.PidFD == nil {
		return fmt.Errorf("pause process: %w", errLost)
	}
	p.pause = newProcess(kept.PID, kept.PidFD)
	p.firstPID.Store(int64(kept.PID))
	if kept.Exit != nil {
		return errPauseEnded
	}
	ns, err := r.m.host.namespace(p.pause, specs.PIDNamespace)
	if err != nil {
		return err
	}
	p.namespaces[specs.PIDNamespace] = ns
	return nil
}

// container takes over one container. It returns what is to be done in the
// background, nil when that is nothing.
func (r *recovery) container(p *pod, saved savedContainer) func(context.Context) error {
	kept, found := r.take(saved.id)
	rec := saved.record
	if rec == nil {
		rec = r.unreadableContainer(p, saved.id)
	}
	c := newContainer(p, *rec)
	if kept.PidFD != nil {
		c.process = newProcess(kept.PID, kept.PidFD)
	}
	c.input = kept.Files[heldInput]
	p.containers[c.id] = c
	r.m.index.addContainer(c)
	switch rec.State {
	case containerCreating, containerRemoving:
		return func(ctx context.Context) error { return r.discard(ctx, c) }
	case ContainerCreated:
		if !found {
			return func(ctx context.Context) error { return r.unstarted(ctx, c) }
		}
		// The daemon died between the launch and its record.
		c.record.State, c.record.PID, c.record.StartedAt = ContainerRunning, kept.PID, r.start
		return r.settle(c, kept)
	case ContainerRunning:
		return r.settle(c, kept)
	case ContainerExited:
		if found {
			return r.cleanUp(c)
		}
	}
	return nil
}

// unreadableContainer is what is known of a container whose record is torn.
func (r *recovery) unreadableContainer(p *pod, id string) *containerRecord {
	r.m.log.WithFields(logrus.Fields{"pod": p.id, "container": id}).Warn("container record is torn, cleaning up")
	// A bad parent was refused when the pod was made.
	group, _ := r.m.cfg.cgroup(p.config, id)
	return &containerRecord{Version: recordVersion, ID: id, PodID: p.id, State: containerCreating, Config: &spec.Container{}, Cgroup: group}
}

// settle finds out how it stands with a container that ran.
func (r *recovery) settle(c *container, kept keeper.Kept) func(context.Context) error {
	if kept.Exit == nil && c.process != nil && c.record.Boot == r.m.boot {
		c.publish()
		if err := r.m.records.putContainer(&c.record); err != nil {
			r.m.log.WithFields(logrus.Fields{"container": c.id, "error": err}).Error("container record not written")
		}
		return nil
	}
	exit := keeper.Exit{Key: c.id, At: time.Now()}
	if kept.Exit != nil {
		exit = *kept.Exit
	}
	r.m.containers.exits.book(c, exit)
	return r.cleanUp(c)
}

// cleanUp frees what an exited container had, and ends a process that the keeper
// lost sight of.
func (r *recovery) cleanUp(c *container) func(context.Context) error {
	return func(context.Context) error {
		r.m.containers.exits.cleanUp(c)
		return nil
	}
}

// unstarted takes back what a start left that did not come to a process.
func (r *recovery) unstarted(ctx context.Context, c *container) error {
	leave, err := c.pod.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if c.now().State != ContainerCreated {
		return nil // a client was faster
	}
	return r.m.freeCgroup(ctx, c.now().Cgroup)
}

func (r *recovery) discard(ctx context.Context, c *container) error {
	leave, err := c.pod.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return r.m.containers.discard(ctx, c)
}
