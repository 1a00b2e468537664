package sandbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
)

// RemoveContainer kills a container if it runs, and removes it with its root file
// system. Its log stays. An unknown id is a success.
func (cs *containers) RemoveContainer(ctx context.Context, id string) error {
	c, err := cs.index.container(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	_, err = cs.tasks.do(ctx, "remove container "+c.id, stopPodTime, func(ctx context.Context) (string, error) {
		// The start that the turn might have to wait for is broken off by the stop.
		if err := cs.stop(ctx, c, 0); err != nil {
			return "", err
		}
		leave, err := c.pod.take(ctx)
		if err != nil {
			return "", err
		}
		defer leave()
		return "", cs.discard(ctx, c)
	})
	if err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	return nil
}

// discard stops and removes a container, or what an earlier daemon left of one
// that it was creating. The caller has the turn, so none is started or created
// meanwhile.
func (cs *containers) discard(ctx context.Context, c *container) error {
	last := containerRemoved
	switch c.now().State {
	case containerGone:
		return nil
	case containerCreating:
		last = containerAbort
	default:
		if err := cs.stop(ctx, c, 0); err != nil {
			return err
		}
		if err := cs.moveContainer(c, containerRemove, nil); err != nil {
			return err
		}
	}
	if last == containerRemoved {
		cs.plugins.stopped(ctx, c)
		cs.plugins.over(ctx, PluginRemove, c)
	}
	if err := cs.free(ctx, c); err != nil {
		return err
	}
	if err := cs.moveContainer(c, last, nil); err != nil {
		return err
	}
	cs.dropContainer(c)
	cs.log.WithFields(logrus.Fields{"pod": c.pod.id, "container": c.id}).Info("container removed")
	return nil
}

// free frees all that a container has, its record last.
func (cs *containers) free(ctx context.Context, c *container) error {
	err := errors.Join(
		cs.runtimes.deleteForeign(ctx, c),
		cs.freeEnded(ctx, c),
		c.closeRoot(),
		cs.parts.Images.RemoveSnapshot(c.id),
		cs.roots.removeImageVolumes(c),
		cs.dropCheckpoint(c),
		cs.parts.Keeper.Forget(ctx, c.id),
		cs.programs.dropProgram(c.pod, c.id),
	)
	if err != nil {
		return err
	}
	if proc := c.takeProcess(); proc != nil {
		// Of a container that is not running: its record was torn. The cgroup may be another's then.
		err = proc.signal(killSignal)
		proc.release()
	}
	cs.hooks.afterStop(ctx, c)
	return errors.Join(err, cs.records.removeContainer(c.pod.id, c.id))
}
