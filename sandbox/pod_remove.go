package sandbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
)

// RemovePod stops a pod, by force, and removes it with its containers. Their logs
// stay. An unknown id is a success.
func (m *Manager) RemovePod(ctx context.Context, id string) error {
	p, err := m.index.pod(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	_, err = m.tasks.do(ctx, "remove pod "+p.id, stopPodTime, func(ctx context.Context) (string, error) {
		return "", m.removePod(ctx, p)
	})
	if err != nil {
		return fmt.Errorf("remove pod %s: %w", p.id, err)
	}
	return nil
}

func (m *Manager) removePod(ctx context.Context, p *pod) error {
	if err := m.stopPod(ctx, p); err != nil {
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
	if err := m.movePod(p, podRemove, nil); err != nil {
		return err
	}
	var errs []error
	for _, c := range p.list() {
		errs = append(errs, m.discard(ctx, c))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := m.forgetPod(p); err != nil {
		return err
	}
	m.index.removePod(p)
	m.log.WithFields(logrus.Fields{"pod": p.id}).Info("pod removed")
	return m.movePod(p, podRemoved, nil)
}
