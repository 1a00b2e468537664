package sandbox

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci/cgroup"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// containers is their life in a pod: creation, start, update, stop, removal.
type containers struct {
	*base
	roots       *roots
	builder     *specBuilder
	namespaces  *namespaces
	stocks      *stocks
	hooks       *hooks
	runtimes    *runtimes
	programs    *keptPrograms
	exits       *exits
	plugins     *plugins
	checkpoints *checkpoints
}

// container is a container that the manager knows. The lock of its pod guards it.
type container struct {
	id     string
	made   time.Time
	pod    *pod
	config *spec.Container
	info   atomic.Pointer[ContainerInfo] // what clients see; nil: nothing

	// The pod's lock guards these.
	record   containerRecord
	process  *process      // its first one; nil before the start, and in containers that ended before this daemon
	input    *os.File      // its terminal's master, or the write end of its standard input; nil: it has none
	early    *keeper.Exit  // the end of a process whose start isn't booked yet
	stopping *stopping     // nil: nobody stops it
	starting *start        // nil: nobody starts it
	ended    chan struct{} // closed once it is exited

	deleting   sync.Mutex  // held while another runtime deletes it
	groupFreed atomic.Bool // its cgroup, for good
	execs      execTurns

	spec *specs.Spec // nil: to be built from the record

	poststop sync.Once // its poststop hooks
	stopTold sync.Once // plugins know that it has stopped

	// Who has the pod's turn also has these, which the start uses up.
	root    *os.File      // detached mount of its root; nil: to be mounted
	group   *cgroup.Group // nil: to be made
	created *stopwatch    // of its creation; nil: an earlier daemon's
}

// newContainer makes the memory of a container.
func newContainer(p *pod, rec containerRecord) *container {
	c := &container{id: rec.ID, made: rec.CreatedAt, pod: p, config: rec.Config, record: rec, ended: make(chan struct{})}
	if rec.State == ContainerExited || rec.State == containerRemoving {
		close(c.ended)
		c.stopTold.Do(func() {}) // to the plugins of an earlier daemon
	}
	c.show()
	return c
}

func (c *container) visible() bool { return c.info.Load() != nil }

func (c *container) since() time.Time { return c.made }

// publish shows the record to readers, alone and with its pod. The caller has the
// lock, or the only reference to the pod.
func (c *container) publish() {
	c.show()
	c.pod.gather()
}

// show is publish for a container that its pod doesn't list.
func (c *container) show() {
	if c.record.State == containerCreating || c.record.State == containerGone {
		c.info.Store(nil)
		return
	}
	c.info.Store(c.record.info())
}

// now is the container's record as it is now.
func (c *container) now() containerRecord {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	return c.record
}

// running returns the container's process, to be released by the caller; nil
// when there is none.
func (c *container) running() *process {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	if c.record.State != ContainerRunning || c.process == nil || !c.process.retain() {
		return nil
	}
	return c.process
}

// takeProcess takes the container's process away from it, nil when it has none.
// The caller releases it.
func (c *container) takeProcess() *process {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	p := c.process
	c.process = nil
	return p
}

// ownPIDs says whether the container has a PID namespace of its own, so that the
// kernel ends all its processes with the first (pid_namespaces(7)).
func (c *container) ownPIDs() bool {
	return c.config.Security.Namespaces.PID == spec.NamespaceContainer
}

// moveContainer moves a container by the table, with what change does to its
// record, and writes and shows the result. Commit and start also need a pod that
// is ready. Of the events only a commit fails when the record can't be written.
func (b *base) moveContainer(c *container, e containerEvent, change func(*containerRecord)) error {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	return b.moveLocked(c, e, change)
}

// moveLocked is moveContainer for a caller that has the pod's lock.
func (b *base) moveLocked(c *container, e containerEvent, change func(*containerRecord)) error {
	to, ok := c.record.State.next(e)
	if !ok {
		return stateError("container", c.id, c.record.State)
	}
	if s := c.pod.record.State; s != PodReady && (e == containerCommit || e == containerStart) {
		return stateError("pod", c.pod.id, s)
	}
	next := c.record
	next.State = to
	if change != nil {
		change(&next)
	}
	// A start leaves no record: should the daemon die, the keeper knows whether there is a process.
	if to != c.record.State && to != containerGone && e != containerStart {
		if err := b.records.putContainer(&next); err != nil && e == containerCommit {
			return err
		} else if err != nil {
			b.log.WithFields(logrus.Fields{"container": c.id, "error": err}).Error("container record not written")
		}
	}
	if to == ContainerExited && c.record.State != ContainerExited {
		close(c.ended)
	}
	c.record = next
	before := c.info.Load()
	c.publish()
	if to != ContainerRunning {
		b.gauges.drop(c.id)
	}
	b.events.happened(c.id, containerPhase(before), containerPhase(c.info.Load()), c.pod, c.pod.info.Load())
	return nil
}
