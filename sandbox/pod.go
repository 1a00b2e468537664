package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci/selinux"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// pods is their life: set-up, stop, removal.
type pods struct {
	*base
	containers *containers
	namespaces *namespaces
	stocks     *stocks
	programs   *keptPrograms
	runtimes   *runtimes
	watched    *watched
	plugins    *plugins
}

// pod is a pod that the manager knows.
type pod struct {
	id     string
	made   time.Time
	config *spec.Pod
	labels selinux.Labels          // of SELinux; none: empty
	info   atomic.Pointer[PodInfo] // what clients see; nil: nothing
	whole  atomic.Pointer[podWhole]

	// turn holds one token: whoever has it may set up and tear down things of the
	// pod. It is waited for with a context; state has a lock of its own.
	turn chan struct{}
	// life ends when the pod is being stopped: what is being set up in it gives up.
	life      context.Context
	interrupt context.CancelCauseFunc

	mu         sync.Mutex // guards what follows; held for memory and the write of one record, no more
	record     podRecord
	containers map[string]*container

	// Who has the turn also has these.
	namespaces map[specs.LinuxNamespaceType]*os.File // the pod's own; a shared PID namespace is among them
	shm        *os.File                              // detached tmpfs; nil: the host's /dev/shm
	pause      *process                              // PID 1 of a shared PID namespace

	firstPID atomic.Int64 // that of pause, for those who only want to say it

	programs programs // that were launched for it; see explain.go
}

// newPod makes the memory of a pod.
func newPod(ctx context.Context, rec podRecord) *pod {
	p := &pod{id: rec.ID, made: rec.CreatedAt, config: rec.Config, labels: rec.labels(), record: rec, turn: make(chan struct{}, 1), containers: map[string]*container{}}
	p.life, p.interrupt = context.WithCancelCause(context.WithoutCancel(ctx))
	p.publish()
	return p
}

// title is the pod's name as people write it.
func (p *pod) title() string { return p.config.Metadata.Namespace + "/" + p.config.Metadata.Name }

func (p *pod) visible() bool { return p.info.Load() != nil }

func (p *pod) since() time.Time { return p.made }

// podWhole is a pod and its containers at one moment, as clients see them. It is
// immutable.
type podWhole struct {
	pod        *PodInfo // nil: nothing is seen
	containers []*ContainerInfo
}

// publish shows the record to readers. The caller has the lock, or the only
// reference.
func (p *pod) publish() {
	if p.record.State == podCreating || p.record.State == podGone {
		p.info.Store(nil)
	} else {
		p.info.Store(p.record.info())
	}
	p.gather()
}

// gather shows pod and containers together as they are now. The caller has the
// lock, or the only reference.
func (p *pod) gather() {
	whole := &podWhole{pod: p.info.Load()}
	for _, c := range p.containers {
		if i := c.info.Load(); i != nil {
			whole.containers = append(whole.containers, i)
		}
	}
	p.whole.Store(whole)
}

// shown is the pod, and its containers by age, at one moment; nil: nothing is seen of it.
func (p *pod) shown() (*PodInfo, []*ContainerInfo) {
	whole := p.whole.Load()
	containers := slices.Clone(whole.containers)
	slices.SortFunc(containers, byAge)
	return whole.pod, containers
}

// take waits for the pod's turn. The caller calls leave once.
func (p *pod) take(ctx context.Context) (leave func(), err error) {
	select {
	case p.turn <- struct{}{}:
		return func() { <-p.turn }, nil
	default:
	}
	select {
	case p.turn <- struct{}{}:
		return func() { <-p.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other work on pod %s: %w", p.id, context.Cause(ctx))
	}
}

// state is the pod's state now.
func (p *pod) state() PodState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record.State
}

// now is the pod's record as it is now.
func (p *pod) now() podRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record
}

// list is the pod's containers.
func (p *pod) list() []*container {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*container, 0, len(p.containers))
	for _, c := range p.containers {
		out = append(out, c)
	}
	return out
}

// named finds the container with that name and attempt, nil when there is none.
func (p *pod) named(metadata spec.ContainerMetadata) *container {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.containers {
		if c.config.Metadata == metadata && c.visible() {
			return c
		}
	}
	return nil
}

// release closes what the daemon holds open for the pod.
func (p *pod) release() error {
	var errs []error
	for _, f := range p.namespaces {
		errs = append(errs, f.Close())
	}
	if p.shm != nil {
		errs = append(errs, p.shm.Close())
	}
	if p.pause != nil {
		p.pause.release()
		p.firstPID.Store(0)
	}
	p.namespaces, p.shm, p.pause = nil, nil, nil
	return errors.Join(errs...)
}

// movePod moves a pod by the table, with what change does to its record, and
// writes and shows the result. Of the events only a commit fails when the record
// can't be written: a pod must be stoppable on a full disk.
func (b *base) movePod(p *pod, e podEvent, change func(*podRecord)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	to, ok := p.record.State.next(e)
	if !ok {
		return stateError("pod", p.id, p.record.State)
	}
	next := p.record
	next.State = to
	if change != nil {
		change(&next)
	}
	if to != p.record.State && to != podGone {
		if err := b.records.putPod(&next); err != nil && e == podCommit {
			return err
		} else if err != nil {
			b.log.WithFields(logrus.Fields{"pod": p.id, "error": err}).Error("pod record not written")
		}
	}
	p.record = next
	before := p.info.Load()
	p.publish()
	if to != PodReady {
		b.gauges.drop(p.id)
	}
	b.events.happened(p.id, podPhase(before), podPhase(p.info.Load()), p, before)
	return nil
}
