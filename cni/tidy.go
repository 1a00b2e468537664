package cni

import (
	"errors"
	"time"
)

// Close stops watching the configuration. Pods stay attached; when there are none, what berth made for them goes: its bridge and
// its nf_tables. It may be called twice.
func (n *Network) Close() error {
	n.mu.Lock()
	closed := n.closed
	n.closed = true
	for _, timer := range []*time.Timer{n.idle, n.collects} {
		if timer != nil {
			timer.Stop()
		}
	}
	n.mu.Unlock()
	n.retries.close()
	if closed {
		return nil
	}
	n.watch.Close()
	n.life.Lock()
	defer n.life.Unlock()
	n.reaper.Close()
	n.bridge.Close()
	n.sysctls.Close()
	return errors.Join(n.tidy(), n.tables.Close(), n.filter.Close(), n.guard.Close(), n.host.Close())
}

// tidy removes what is there for pods when there are none. The caller holds life for writing.
func (n *Network) tidy() error {
	n.mu.Lock()
	busy := len(n.attached) > 0
	n.mu.Unlock()
	if busy {
		return nil
	}
	err := errors.Join(n.tables.Prune(), n.filter.Prune(), n.guard.Prune())
	if n.cfg.Builtin {
		err = errors.Join(err, n.bridge.Remove(n.cfg.BuiltinBridge, n.dir))
	}
	return err
}

// tidyLater tidies up when no pod comes for a while.
func (n *Network) tidyLater() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || len(n.attached) > 0 {
		return
	}
	if n.idle != nil {
		n.idle.Stop()
	}
	n.idle = time.AfterFunc(idleDelay, func() { // ends by itself, or is stopped by Close
		if !n.life.TryLock() { // a pod comes, or goes and will have it tidied up: to wait would keep all others waiting
			return
		}
		defer n.life.Unlock()
		n.mu.Lock()
		closed := n.closed
		n.mu.Unlock()
		if closed {
			return
		}
		if err := n.tidy(); err != nil {
			n.log.WithError(err).Warn("idle network not tidied up")
		}
	})
}
