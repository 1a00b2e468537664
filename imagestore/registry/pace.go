package registry

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// errSlow: data stopped coming, or comes slower than is allowed.
var errSlow = fmt.Errorf("%w: too slow", ErrUnavailable)

// pace ends a connection by which too little comes: less than rate bytes a second of the time that its reader waited for it, looked at over
// windows of time. A reader that is slow itself waits little, so that a slow disk is never a slow registry.
type pace struct {
	cancel context.CancelCauseFunc
	window time.Duration
	rate   int64

	mu      sync.Mutex
	timer   *time.Timer
	since   time.Time     // a read waits since; zero: none does
	waited  time.Duration // in this window, without the read that waits
	came    int64         // in this window
	stopped bool
}

type paceKey struct{}

// keepPace watches a connection until stop is called. cancel is called at most once, with an error that wraps errSlow.
func keepPace(cancel context.CancelCauseFunc, window time.Duration, rate int64) *pace {
	p := &pace{cancel: cancel, window: window, rate: rate}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(window, p.look)
	return p
}

// waits and got enclose a read.
func (p *pace) waits() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Now()
}

func (p *pace) got(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waited += time.Since(p.since)
	p.since = time.Time{}
	p.came += int64(n)
}

func (p *pace) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	now := time.Now()
	if !p.since.IsZero() {
		p.waited += now.Sub(p.since)
		p.since = now
	}
	if p.waited > p.window/2 && float64(p.came) < float64(p.rate)*p.waited.Seconds() {
		p.stopped = true
		p.cancel(fmt.Errorf("%w: %d bytes in %s", errSlow, p.came, p.window))
		return
	}
	p.waited, p.came = 0, 0
	p.timer.Reset(p.window)
}

// stop ends the watching. It may be called twice.
func (p *pace) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
}
