package cni

import "errors"

// Close stops watching the configuration. Pods stay attached; when there are none, what berth made for them goes: its bridge and
// its nf_tables. It may be called twice.
func (n *Network) Close() error {
	first := n.book.close()
	n.janitor.stop()
	n.retries.close()
	if !first {
		return nil
	}
	n.stop()
	n.watch.Close()
	n.life.Lock()
	defer n.life.Unlock()
	n.fabric.drain()
	return errors.Join(n.tidy(), n.fabric.close())
}

// tidy removes what is there for pods when there are none. The caller holds life for writing.
func (n *Network) tidy() error {
	if !n.book.empty() {
		return nil
	}
	err := n.fabric.prune()
	if n.cfg.Builtin {
		err = errors.Join(err, n.fabric.bridge.Remove(n.cfg.BuiltinBridge, n.dir))
	}
	return err
}
