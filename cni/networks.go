package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// networks are those that pods can be attached to: the configuration directory's, or the built-in one, and those of single runtime handlers.
type networks struct {
	cfg      Config
	builtin  builtin
	conf     *confDir
	handlers map[string]*confDir // of runtime handlers with networks of their own
	run      *runner
	log      logrus.FieldLogger

	mu       sync.Mutex
	subnets  []netip.Prefix // of the built-in network
	own      *network       // the built-in network, nil until it is wanted
	limited  *network       // the same for pods with limits
	reported error          // what the STATUS of the plugins said last
}

func newNetworks(cfg Config, dir string, run *runner, log logrus.FieldLogger) *networks {
	n := &networks{cfg: cfg, builtin: builtin{cfg: cfg, dir: dir}, conf: &confDir{dir: cfg.ConfDir}, handlers: map[string]*confDir{}, run: run, log: log}
	n.conf.changed = n.tell
	for handler, dir := range cfg.HandlerConfDirs {
		n.handlers[handler] = &confDir{dir: dir, changed: n.tell}
	}
	return n
}

// open learns what the built-in network is to be on this host.
func (n *networks) open(host *link.Space) (err error) {
	_ = host.Do(func() error {
		_, err := os.Stat("/proc/sys/net/ipv6/conf/all/forwarding")
		n.builtin.ipv6 = err == nil
		return nil
	})
	if !n.cfg.Builtin {
		return nil
	}
	if n.subnets, err = n.builtin.subnets(); errors.Is(err, errTorn) { // of a boot that is over: the kubelet of this one says it again
		n.log.WithError(err).Warn("subnets of the built-in network are the configuration's")
		n.subnets, err = n.cfg.subnets()
	}
	return err
}

// current is the network in force.
func (n *networks) current() (*network, error) {
	now, err := n.conf.get()
	if err == nil {
		return now, nil
	}
	if !n.cfg.Builtin || !errors.Is(err, errNoFiles) {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.own == nil {
		if n.own, err = n.brought(false); err != nil {
			return nil, err
		}
	}
	return n.own, nil
}

// forPod is the network for a pod: that of its runtime handler's directory, or the one in force, or, when that is the built-in one and the pod
// has limits, the one that takes them.
func (n *networks) forPod(a Attachment) (*network, error) {
	if own := n.handlers[a.Handler]; own != nil {
		net, err := own.get()
		if err != nil {
			return nil, fmt.Errorf("%w: runtime handler %s: %w", ErrNotReady, a.Handler, err)
		}
		return net, nil
	}
	net, err := n.current()
	if err != nil || !net.builtin {
		return net, err
	}
	if limits, err := bandwidthOf(a.Annotations); err != nil || limits == nil {
		return net, nil // capabilities says what is wrong with them
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.limited == nil {
		if n.limited, err = n.brought(true); err != nil {
			return nil, err
		}
	}
	return n.limited, nil
}

// brought makes the built-in network, mu held.
func (n *networks) brought(limits bool) (*network, error) {
	list, err := n.builtin.list(n.subnets, limits)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return newNetwork(list, ""), nil
}

// all are those that pods can be attached to now.
func (n *networks) all() []*network {
	var out []*network
	if net, err := n.current(); err == nil {
		out = append(out, net)
	}
	for _, dir := range n.handlers {
		if net, err := dir.get(); err == nil {
			out = append(out, net)
		}
	}
	return out
}

func (n *networks) setSubnets(cidrs []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.builtin.save(cidrs); err != nil {
		return err
	}
	n.subnets, n.own, n.limited = append([]netip.Prefix(nil), cidrs...), nil, nil
	return nil
}

// status is Network.Status of one that is open.
func (n *networks) status(ctx context.Context) error {
	net, err := n.current()
	if err != nil {
		return err
	}
	if err := n.run.ready(ctx, net); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.reported != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotReady, net, n.reported)
	}
	return nil
}

// refresh looks at the configuration and asks plugin processes for their STATUS. The watcher calls it.
func (n *networks) refresh(ctx context.Context) {
	net, err := n.current()
	if err != nil {
		return // status says it
	}
	var reported error
	if slices.ContainsFunc(net.list.Plugins, func(p *libcni.PluginConfig) bool { return n.run.plugins[p.Network.Type] == nil }) {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		reported = n.run.in(nil).GetStatusNetworkList(ctx, net.list)
	}
	n.mu.Lock()
	n.reported = reported
	n.mu.Unlock()
}

// tell logs a change of the configuration, and the keys that nobody reads of plugins that run here.
func (n *networks) tell(now *network, skipped []error, err error) {
	for _, s := range skipped {
		n.log.WithError(s).Warn("network configuration passed over")
	}
	if err != nil {
		n.log.WithError(err).Debug("no network configuration")
		return
	}
	n.log.WithFields(logrus.Fields{"op": "load network " + now.list.Name + " of " + now.file}).Info("network configuration loaded")
	for _, p := range now.list.Plugins {
		for _, key := range n.run.unknown(p) {
			n.log.WithFields(logrus.Fields{"op": fmt.Sprintf("read %q of plugin %s in %s", key, p.Network.Type, now.file)}).Warn("unknown key in network configuration")
		}
	}
}
