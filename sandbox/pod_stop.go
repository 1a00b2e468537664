package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// stopPodTime bounds the teardown of a pod.
const stopPodTime = 2 * time.Minute

// StopPod kills a pod's containers and frees its network and namespaces. The pod
// stays listed, not ready. An unknown id and a stopped pod are a success. What
// fails is tried again by the next call.
func (ps *pods) StopPod(ctx context.Context, id string) error {
	p, err := ps.index.pod(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	_, err = ps.tasks.do(ctx, "stop pod "+p.id, stopPodTime, func(ctx context.Context) (string, error) {
		return "", ps.stopPod(ctx, p)
	})
	if err != nil {
		return fmt.Errorf("stop pod %s: %w", p.id, err)
	}
	return nil
}

// stopPod brings a pod to PodNotReady.
func (ps *pods) stopPod(ctx context.Context, p *pod) error {
	if s := p.state(); s == PodNotReady || s == podRemoving || s == podGone {
		return nil
	}
	start := time.Now()
	if err := ps.movePod(p, podStop, nil); err != nil {
		return err
	}
	// What sets something up in the pod gives way, and no more begins: it is not ready.
	p.interrupt(fmt.Errorf("pod %s is being stopped: %w", p.id, ErrState))
	leave, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if p.state() != podStopping {
		return nil // a removal was faster
	}
	if err := ps.teardown(ctx, p); err != nil {
		return err
	}
	for _, c := range p.list() {
		ps.containers.plugins.stopped(ctx, c)
	}
	ps.plugins.pod(ctx, PluginStop, p.now())
	ps.log.WithFields(logrus.Fields{"pod": p.id, "took": time.Since(start)}).Info("pod stopped")
	return ps.movePod(p, podStopped, nil)
}

// teardown frees all that a pod has beside its record and its containers'
// records and snapshots. Each part is freed whatever becomes of the others. The
// caller has the turn.
func (ps *pods) teardown(ctx context.Context, p *pod) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	rec := p.now()
	return errors.Join(
		ps.stopContainers(ctx, p),
		ps.stopPause(ctx, p),
		ps.watched.leave(ctx, &rec),
		ps.detach(ctx, &rec),
		ps.unpin(&rec),
		ps.parts.Keeper.Forget(ctx, podKey(p.id)),
		p.release(),
	)
}

// stopContainers kills a pod's containers, all at once.
func (ps *pods) stopContainers(ctx context.Context, p *pod) error {
	list := p.list()
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() { errs[i] = ps.containers.stop(ctx, c, 0) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (ps *pods) unpin(rec *podRecord) error {
	if rec.NetNS == "" {
		return nil
	}
	return ps.host.unpin(rec.NetNS)
}
