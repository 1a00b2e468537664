package sandbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
)

// RemovePod stops a pod, by force, and removes it with its containers. Their logs
// stay. An unknown id is a success.
func (ps *pods) RemovePod(ctx context.Context, id string) error {
	p, err := ps.index.pod(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	_, err = ps.tasks.do(ctx, "remove pod "+p.id, stopPodTime, func(ctx context.Context) (string, error) {
		return "", ps.removePod(ctx, p)
	})
	if err != nil {
		return fmt.Errorf("remove pod %s: %w", p.id, err)
	}
	return nil
}

func (ps *pods) removePod(ctx context.Context, p *pod) error {
	if err := ps.stopPod(ctx, p); err != nil {
		return err
	}
	leave, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if p.state() == podGone {
		return nil // another removal was faster
	}
	if err := ps.movePod(p, podRemove, nil); err != nil {
		return err
	}
	var errs []error
	for _, c := range p.list() {
		errs = append(errs, ps.containers.discard(ctx, c))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := ps.forgetPod(p); err != nil {
		return err
	}
	ps.plugins.pod(ctx, PluginRemove, p.now())
	ps.index.removePod(p)
	ps.log.WithFields(logrus.Fields{"pod": p.id}).Info("pod removed")
	return ps.movePod(p, podRemoved, nil)
}
