package cni

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// retryFirst is how soon a DEL that failed is run again, for which nobody need ask; each time after that waits twice as long.
	retryFirst = 5 * time.Second
	retryLast  = 5 * time.Minute
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

// retryDel is Del for what waits to be released.
func (n *Network) retryDel(id string) error {
	n.life.RLock()
	defer n.life.RUnlock()
	defer n.locks.take(id)()
	if ours, known := n.book.has(id); n.book.isClosed() || ours || !known {
		n.retries.forget(id)
		return nil
	}
	return n.del(n.ctx, id, "")
}
