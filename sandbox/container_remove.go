package sandbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
)

// RemoveContainer kills a container if it runs, and removes it with its root file
// system. Its log stays. An unknown id is a success.
func (m *Manager) RemoveContainer(ctx context.Context, id string) error {
	c, err := m.index.container(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	_, err = m.tasks.do(ctx, "remove container "+c.id, stopPodTime, func(ctx context.Context) (string, error) {
		// The start that the turn might have to wait for is broken off by the stop.
		if err := m.stop(ctx, c, 0); err != nil {
			return "", err
		}
		leave, err := c.pod.take(ctx)
		if err != nil {
			return "", err
		}
		defer leave()
		return "", m.discard(ctx, c)
	})
	if err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	return nil
}

// discard stops and removes a container, or what an earlier daemon left of one
// that it was creating. The caller has the turn, so none is started or created
// meanwhile.
func (m *Manager) discard(ctx context.Context, c *container) error {
	last := containerRemoved
	switch c.now().State {
	case containerGone:
		return nil
	case containerCreating:
		last = containerAbort
	default:
		if err := m.stop(ctx, c, 0); err != nil {
			return err
		}
		if err := m.moveContainer(c, containerRemove, nil); err != nil {
			return err
		}
	}
	if err := m.free(ctx, c); err != nil {
		return err
	}
	if err := m.moveContainer(c, last, nil); err != nil {
		return err
	}
	m.dropContainer(c)
	m.log.WithFields(logrus.Fields{"pod": c.pod.id, "container": c.id}).Info("container removed")
	return nil
}

// free frees all that a container has, its record last.
func (m *Manager) free(ctx context.Context, c *container) error {
	err := errors.Join(
		m.deleteForeign(ctx, c),
		m.freeCgroup(ctx, c.now().Cgroup),
		c.closeRoot(),
		m.parts.Images.RemoveSnapshot(c.id),
		m.removeImageVolumes(c),
		m.parts.Keeper.Forget(ctx, c.id),
		m.dropProgram(c.pod, c.id),
	)
	if err != nil {
		return err
	}
	if proc := c.takeProcess(); proc != nil {
		// Of a container that is not running: its record was torn. The cgroup may be another's then.
		err = proc.signal(killSignal)
		proc.release()
	}
	m.afterStop(ctx, c)
	return errors.Join(err, m.records.removeContainer(c.pod.id, c.id))
}
