package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// Plugins are told of each step in the life of pods and containers, in the order in which a pod's happen, and of those
// that make something before anybody else sees it. They may refuse a step, which is then undone, and change what is
// made (*nri.Plugins).
//
//	pod        Run ─▶ (ready) ─▶ UpdatePod ─▶ Updated ─▶ Stop ─▶ Remove
//	container  Adjust ─▶ Created ─▶ Start ─▶ (runs) ─▶ Started ─▶ Stop ─▶ Remove
//	                                         Update ─▶ Updated
//
// Nobody can refuse an end: what a plugin says to Stop and Remove is logged. A step that is refused, or that fails later,
// ends with a Remove of the pod or container that was to be, a start that failed with a Stop.
type Plugins interface {
	// Enter begins a step: until leave is called, no plugin joins, so a new one is shown either what was before the step
	// or what came of it. Who has entered waits for nobody who enters. any is false when there is no plugin.
	Enter() (leave func(), any bool)
	// Enabled says whether there may ever be a plugin.
	Enabled() bool
	Pod(ctx context.Context, step PluginStep, pod *PodInfo) error
	Container(ctx context.Context, step PluginStep, pod *PodInfo, c *ContainerInfo, s *specs.Spec) error // s may be nil
	// Adjust tells of a container that is made of a Spec, and returns what it is to be made of instead.
	Adjust(ctx context.Context, pod *PodInfo, c *ContainerInfo, s *specs.Spec) (Adjustment, error)
	// Apply changes a Spec by an adjustment's message.
	Apply(message json.RawMessage, s *specs.Spec) error
	UpdatePod(ctx context.Context, pod *PodInfo, overhead, resources *spec.Resources) error
	// Update returns the limits that a container is to get instead of update.
	Update(ctx context.Context, pod *PodInfo, c *ContainerInfo, update *spec.Resources) (*spec.Resources, error)
}

// PluginStep is a step in the life of a pod or container.
type PluginStep uint8

// The steps that Plugins.Pod (Run, Updated, Stop, Remove) and Plugins.Container (all but Run) are called with.
const (
	PluginRun PluginStep = iota + 1
	PluginCreated
	PluginStart
	PluginStarted
	PluginUpdated
	PluginStop
	PluginRemove
)

// Adjustment is what plugins want of a container.
type Adjustment struct {
	Message    json.RawMessage // in the plugins' own form, kept with the container
	CDIDevices []string
}

// ErrRefused: a plugin does not want it.
var ErrRefused = errors.New("refused by a plugin")

// plugins tells the plugins of steps. The caller has the pod's turn, but where it says otherwise.
type plugins struct {
	*base
	builder *specBuilder
}

// enter is Plugins.Enter for nodes that have none, too.
func (pl *plugins) enter() (leave func(), any bool) {
	if pl.parts.Plugins == nil {
		return func() {}, false
	}
	return pl.parts.Plugins.Enter()
}

// pod tells of a step of a pod's that can't be refused.
func (pl *plugins) pod(ctx context.Context, step PluginStep, rec podRecord) {
	leave, any := pl.enter()
	defer leave()
	if !any {
		return
	}
	if err := pl.parts.Plugins.Pod(ctx, step, rec.info()); err != nil {
		pl.log.WithFields(logrus.Fields{"pod": rec.ID, "op": "tell plugins", "error": err}).Warn("plugin failed")
	}
}

// tell tells of a step of a container's. The caller has entered.
func (pl *plugins) tell(ctx context.Context, step PluginStep, c *container) error {
	p, rec := c.pod.now(), c.now()
	s, err := pl.builder.specOf(c)
	if err != nil {
		s = nil // of one whose end it is: what it was made of may be gone
	}
	if err := pl.parts.Plugins.Container(ctx, step, p.info(), rec.info(), s); err != nil {
		return fmt.Errorf("%w: %v", ErrRefused, err) // whose own code is the plugin's, and none of this API
	}
	return nil
}

// over tells of a step of a container's that can't be refused.
func (pl *plugins) over(ctx context.Context, step PluginStep, c *container) {
	leave, any := pl.enter()
	defer leave()
	if !any {
		return
	}
	if err := pl.tell(ctx, step, c); err != nil {
		pl.log.WithFields(logrus.Fields{"container": c.id, "op": "tell plugins", "error": err}).Warn("plugin failed")
	}
}

// stopped tells once that a container has stopped, one that was started.
func (pl *plugins) stopped(ctx context.Context, c *container) {
	if c.now().StartedAt.IsZero() {
		return
	}
	c.stopTold.Do(func() { pl.over(ctx, PluginStop, c) })
}

// stoppedNow is stopped for who hasn't the pod's turn.
func (pl *plugins) stoppedNow(ctx context.Context, c *container) error {
	if pl.parts.Plugins == nil || !pl.parts.Plugins.Enabled() {
		return nil
	}
	leave, err := c.pod.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	pl.stopped(ctx, c)
	return nil
}

// stoppedSoon is stopped for who hasn't the pod's turn, and doesn't wait for it.
func (pl *plugins) stoppedSoon(c *container) {
	if pl.parts.Plugins == nil || !pl.parts.Plugins.Enabled() {
		return
	}
	pl.tasks.goes(func(ctx context.Context) {
		_ = pl.stoppedNow(ctx, c) // it fails when the daemon ends
	})
}

// adjust asks what a container is to be made of, and notes it in its record.
func (pl *plugins) adjust(ctx context.Context, c *container, s *specs.Spec) error {
	p := c.pod.now()
	a, err := pl.parts.Plugins.Adjust(ctx, p.info(), c.record.info(), s)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrRefused, err) // whose own code is the plugin's, and none of this API
	}
	c.record.Adjustment = a.Message
	if len(a.CDIDevices) == 0 {
		return nil
	}
	config := *c.config
	config.CDIDevices = append(append([]string(nil), config.CDIDevices...), a.CDIDevices...)
	c.record.Edits, err = pl.builder.cdiEdits(c.pod, &config)
	return err
}

// update asks what limits a container is to get.
func (pl *plugins) update(ctx context.Context, c *container, update *spec.Resources) (*spec.Resources, error) {
	p, rec := c.pod.now(), c.now()
	update, err := pl.parts.Plugins.Update(ctx, p.info(), rec.info(), update)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRefused, err) // whose own code is the plugin's, and none of this API
	}
	return update, nil
}

// updatePod asks whether a pod's limits may change, and waits for its turn where there may be plugins. The caller calls
// done when they have, or not.
func (pl *plugins) updatePod(ctx context.Context, p *pod, overhead, resources *spec.Resources) (done func(), err error) {
	if pl.parts.Plugins == nil || !pl.parts.Plugins.Enabled() {
		return func() {}, nil
	}
	leaveTurn, err := p.take(ctx)
	if err != nil {
		return nil, err
	}
	leave, any := pl.enter()
	rec := p.now()
	if !any {
		return func() { leave(); leaveTurn() }, nil
	}
	if err := pl.parts.Plugins.UpdatePod(ctx, rec.info(), overhead, resources); err != nil {
		leave()
		leaveTurn()
		return nil, fmt.Errorf("%w: %v", ErrRefused, err)
	}
	return func() {
		leave()
		pl.pod(ctx, PluginUpdated, p.now())
		leaveTurn()
	}, nil
}
