package cni

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// idleDelay is how long the built-in bridge and empty tables outlive the last pod: they are dear to make for each.
	idleDelay = 5 * time.Second
	// gcEvery is how often what nobody holds is collected, after the caller has said once which pods there are.
	gcEvery = 10 * time.Minute
)

// janitor has the network tidied up when no pod comes for a while, and collected now and then. It never waits for life: who waits to write a
// lock keeps its readers waiting.
type janitor struct {
	life  *sync.RWMutex
	log   logrus.FieldLogger
	tidy  func() error                // with life held for writing
	sweep func(context.Context) error // the same

	mu       sync.Mutex
	idle     *time.Timer
	collects *time.Timer
	stopped  bool
}

// tidyLater has tidy called in a while, in place of what it was called for before.
func (j *janitor) tidyLater() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped {
		return
	}
	if j.idle != nil {
		j.idle.Stop()
	}
	j.idle = time.AfterFunc(idleDelay, func() { // ends by itself, or is stopped by stop
		if !j.life.TryLock() { // a pod comes, or goes and will have it tidied up
			return
		}
		defer j.life.Unlock()
		if j.isStopped() {
			return
		}
		if err := j.tidy(); err != nil {
			j.log.WithError(err).Warn("idle network not tidied up")
		}
	})
}

// sweepLater has sweep called in a while, again and again until stop or the end of ctx.
func (j *janitor) sweepLater(ctx context.Context) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped {
		return
	}
	if j.collects != nil {
		j.collects.Stop()
	}
	j.collects = time.AfterFunc(gcEvery, func() { // ends by itself, or is stopped by stop
		if err := j.sweepNow(ctx); err != nil {
			j.log.WithError(err).Warn("network not collected")
		}
		j.sweepLater(ctx)
	})
}

// sweepNow calls sweep if life is to be had within a second. Where a pod is being attached all the time, or a plugin hangs, it leaves that
// to the next time.
func (j *janitor) sweepNow(ctx context.Context) error {
	for range 50 {
		if j.life.TryLock() {
			defer j.life.Unlock()
			if j.isStopped() {
				return nil
			}
			return j.sweep(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (j *janitor) isStopped() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stopped
}

// stop lets nothing be called any more that is not running already.
func (j *janitor) stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = true
	for _, timer := range []*time.Timer{j.idle, j.collects} {
		if timer != nil {
			timer.Stop()
		}
	}
}
