package cni

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// retryFirst is how soon a DEL that failed is run again, for which nobody need ask; each time after that waits twice as long.
	retryFirst = 5 * time.Second
	retryLast  = 5 * time.Minute
	// gcEvery is how often what nobody holds is collected, after the caller has said once which pods there are.
	gcEvery = 10 * time.Minute
)

// retries are the DELs that failed and wait to be run again.
type retries struct {
	run   func(id string) error
	log   logrus.FieldLogger
	first time.Duration

	mu      sync.Mutex
	waiting map[string]*retry
	closed  bool
}

type retry struct {
	timer *time.Timer
	delay time.Duration
}

// later runs the DEL of an attachment in a while. It may be called again, which makes the next wait longer.
func (r *retries) later(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	old := r.waiting[id]
	next := &retry{delay: r.first}
	if old != nil {
		old.timer.Stop()
		next.delay = min(2*old.delay, retryLast)
	}
	next.timer = time.AfterFunc(next.delay, func() { r.again(id, next) }) // ends by itself, or is stopped by forget and close
	r.waiting[id] = next
}

func (r *retries) again(id string, due *retry) {
	r.mu.Lock()
	wanted := r.waiting[id] == due && !r.closed
	r.mu.Unlock()
	if !wanted {
		return
	}
	if err := r.run(id); err != nil { // which has called later
		r.log.WithFields(logrus.Fields{"pod": id, "op": "detach", "error": err}).Warn("pod not detached from the network, trying again")
	}
}

// waits says whether the DEL of an attachment is to be run again.
func (r *retries) waits(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[id] != nil
}

// forget is called when a DEL has succeeded, or the attachment is wanted again.
func (r *retries) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.waiting[id]; old != nil {
		old.timer.Stop()
		delete(r.waiting, id)
	}
}

func (r *retries) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, w := range r.waiting {
		w.timer.Stop()
	}
}

// locks are one lock an attachment: an ADD and the DEL of a retry, or two DELs, must not meet.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	sync.Mutex
	users int
}

// take waits for the attachment's lock. The caller calls what it returns.
func (l *locks) take(id string) (leave func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	k := l.held[id]
	if k == nil {
		k = &lock{}
		l.held[id] = k
	}
	k.users++
	l.mu.Unlock()
	k.Lock()
	return func() {
		k.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, id)
		}
	}
}

// retryDel is Del for what waits to be released.
func (n *Network) retryDel(id string) error {
	n.life.RLock()
	defer n.life.RUnlock()
	defer n.locks.take(id)()
	n.mu.Lock()
	ours, known := n.attached[id]
	closed := n.closed
	n.mu.Unlock()
	if closed || ours || !known {
		n.retries.forget(id)
		return nil
	}
	return n.del(context.Background(), id, "")
}

// collectLater has gc run in a while, again and again until Close.
func (n *Network) collectLater() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	if n.collects != nil {
		n.collects.Stop()
	}
	n.collects = time.AfterFunc(gcEvery, func() { // ends by itself, or is stopped by Close
		if err := n.sweep(context.Background()); err != nil {
			n.log.WithError(err).Warn("network not collected")
		}
		n.collectLater()
	})
}

// alone takes life for writing, if that is to be had within a second.
func (n *Network) alone() bool {
	for range 50 {
		if n.life.TryLock() {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// sweep is the GC that nobody asked for: of what was valid when somebody did, less what was released since. Where a pod is being attached
// all the time, or a plugin hangs, it leaves that to the next time: whoever waits for life keeps all others waiting.
func (n *Network) sweep(ctx context.Context) error {
	if !n.alone() {
		return nil
	}
	defer n.life.Unlock()
	n.mu.Lock()
	keep, closed := map[string]bool{}, n.closed
	for id := range n.valid {
		keep[id] = true
	}
	n.mu.Unlock()
	if closed {
		return nil
	}
	return n.gc(ctx, keep, false)
}
