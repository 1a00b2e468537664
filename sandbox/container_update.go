package sandbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// UpdateContainer changes the limits of a container that is created or runs: those
// that update sets. All of them are changed or none, and they are on disk and in the
// container's information when it returns.
//
// Errors: ErrNotFound, ErrState, ErrBelowUsage for a memory limit below what is in
// use, ErrInvalidLimit for a value that the kernel refuses, a *spec.FieldError for one
// that breaks a rule.
func (cs *containers) UpdateContainer(ctx context.Context, id string, update *spec.Resources) error {
	return cs.updateContainer(ctx, id, update, true)
}

// UpdateForPlugin is UpdateContainer at the wish of a plugin, which no plugin is told of.
func (cs *containers) UpdateForPlugin(ctx context.Context, id string, update *spec.Resources) error {
	return cs.updateContainer(ctx, id, update, false)
}

func (cs *containers) updateContainer(ctx context.Context, id string, update *spec.Resources, tell bool) error {
	c, err := cs.index.container(id)
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	leave, err := c.pod.take(ctx)
	if err != nil {
		return fmt.Errorf("update container %s: %w", c.id, err)
	}
	defer leave()
	rec := c.now()
	if rec.State != ContainerCreated && rec.State != ContainerRunning {
		return fmt.Errorf("update: %w", stateError("container", c.id, rec.State))
	}
	done, any := cs.plugins.enter()
	defer done()
	if any = any && tell; any {
		if update, err = cs.plugins.update(ctx, c, update); err != nil {
			return err
		}
	}
	resources, err := rec.Config.Resources.With(update)
	if err != nil {
		return err
	}
	undo, err := cs.updateCgroup(c, resources, update)
	if err != nil {
		return fmt.Errorf("update container %s: %w", c.id, err)
	}
	if err := c.setResources(cs.records, resources); err != nil {
		return fmt.Errorf("update container %s: %w", c.id, errors.Join(err, undo()))
	}
	if any {
		if err := cs.plugins.tell(ctx, PluginUpdated, c); err != nil {
			cs.log.WithFields(logrus.Fields{"container": c.id, "op": "tell plugins", "error": err}).Warn("plugin failed")
		}
	}
	cs.log.WithFields(logrus.Fields{"pod": c.pod.id, "container": c.id}).Info("container updated")
	return nil
}

// updateCgroup writes the limits; undo takes them back. The caller has the pod's turn.
func (cs *containers) updateCgroup(c *container, resources, update *spec.Resources) (undo func() error, err error) {
	rec := c.now()
	if c.group == nil && rec.State == ContainerCreated {
		// Created by an earlier daemon; the start makes the cgroup, with the new limits.
		return func() error { return nil }, nil
	}
	undo, err = cs.host.updateCgroup(rec.Cgroup, resources.Changes(update))
	if err != nil && c.now().State != rec.State {
		return nil, stateError("container", c.id, c.now().State) // it ended meanwhile, and its cgroup with it
	}
	return undo, err
}

// setResources records and shows the limits. The caller has the pod's turn.
func (c *container) setResources(records *records, resources *spec.Resources) error {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	next := c.record
	config := *next.Config
	config.Resources = resources
	next.Config = &config
	if err := records.putContainer(&next); err != nil {
		return err
	}
	c.record = next
	c.spec = nil // built from the old ones
	c.publish()
	return nil
}

// UpdatePod records the overhead and the limits of a pod, nil for those that stay.
// kubelet calls it before it changes the pod's cgroup, which is its own, and takes an
// error for a refusal of the whole change.
func (ps *pods) UpdatePod(ctx context.Context, id string, overhead, resources *spec.Resources) error {
	p, err := ps.index.pod(id)
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	done, err := ps.plugins.updatePod(ctx, p, overhead, resources)
	if err != nil {
		return fmt.Errorf("update pod %s: %w", p.id, err)
	}
	defer done()
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.record
	config := *next.Config
	if config.Overhead, err = config.Overhead.With(overhead); err != nil {
		return err
	}
	if config.Resources, err = config.Resources.With(resources); err != nil {
		return err
	}
	next.Config = &config
	if err := ps.records.putPod(&next); err != nil {
		return fmt.Errorf("update pod %s: %w", p.id, err)
	}
	p.record = next
	p.publish()
	return nil
}
