package cni

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/cni/plugin"
)

// Status is nil when pods can be attached, and otherwise says why not: which file and plugin, and what about it. It runs no process:
// what plugin processes say of themselves (STATUS) is from the last change of the configuration or, at most, refreshEvery ago.
func (n *Network) Status() error {
	n.mu.Lock()
	closed, reported := n.closed, n.reported
	n.mu.Unlock()
	if closed {
		return fmt.Errorf("%w: %w", ErrNotReady, ErrClosed)
	}
	net, err := n.network()
	if err != nil {
		return err
	}
	if err := n.ready(net); err != nil {
		return err
	}
	if reported != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotReady, net, reported)
	}
	return nil
}

// ready says why no pod can be attached to a network: what our plugins have against its configuration, and which binary is not there.
func (n *Network) ready(net *network) error {
	net.check.Do(func() {
		for _, p := range net.list.Plugins {
			if err := n.checkPlugin(net, p); err != nil {
				net.invalid = fmt.Errorf("%w: %s: plugin %s: %w", ErrNotReady, net, p.Network.Type, err)
				return
			}
		}
	})
	if net.invalid != nil {
		return net.invalid
	}
	for _, p := range net.list.Plugins {
		for _, name := range []string{p.Network.Type, p.Network.IPAM.Type} {
			if name == "" || (n.plugins[name] != nil && net.foreign[name] == nil) {
				continue
			}
			if _, err := findBinary(name, n.cfg.BinDirs); err != nil {
				if why := net.foreign[name]; why != nil {
					err = fmt.Errorf("%w: %w", why, err)
				}
				return fmt.Errorf("%w: %s: plugin %s: %w", ErrNotReady, net, p.Network.Type, err)
			}
		}
	}
	return nil
}

// checkPlugin holds the configuration of a plugin of ours against its rules.
func (n *Network) checkPlugin(net *network, conf *libcni.PluginConfig) error {
	p, here := n.plugins[conf.Network.Type]
	if !here {
		return nil
	}
	whole, err := libcni.InjectConf(conf, map[string]any{"name": net.list.Name, "cniVersion": net.list.CNIVersion})
	if err != nil {
		return err
	}
	if err := p.Supports(whole.Bytes); err != nil {
		if net.foreign == nil {
			net.foreign = map[string]error{}
		}
		net.foreign[conf.Network.Type] = err
		return nil
	}
	if _, err := confVersion(whole.Bytes); err != nil {
		return err
	}
	call := &plugin.Call{Config: whole.Bytes}
	call.IPAM = func(ctx context.Context, _, name string) (*types100.Result, error) {
		if ipam, here := n.plugins[name]; here {
			return nil, ipam.Status(ctx, call)
		}
		return nil, nil
	}
	return p.Status(context.Background(), call) // of ours: reads what it is given, and waits for nothing
}

// confVersion is the version that a configuration is written in, when we know it.
func confVersion(config []byte) (string, error) {
	v, err := (&version.ConfigDecoder{}).Decode(config)
	if err != nil {
		return "", plugin.Keyf("cniVersion", "%w", err)
	}
	if known := version.All.SupportedVersions(); !slices.Contains(known, v) {
		return "", plugin.Keyf("cniVersion", "%q is none of %s", v, strings.Join(known, ", "))
	}
	return v, nil
}

// refresh looks at the configuration and asks plugin processes for their STATUS. The watcher calls it.
func (n *Network) refresh(ctx context.Context) {
	net, err := n.network()
	if err != nil {
		return // Status says it
	}
	var reported error
	if slices.ContainsFunc(net.list.Plugins, func(p *libcni.PluginConfig) bool { return n.plugins[p.Network.Type] == nil }) {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		reported = n.libcni(nil).GetStatusNetworkList(ctx, net.list)
	}
	n.mu.Lock()
	n.reported = reported
	n.mu.Unlock()
}

// unknownKeys are the keys that nobody reads of a plugin that runs here.
func (n *Network) unknownKeys(conf *libcni.PluginConfig) []string {
	p, here := n.plugins[conf.Network.Type].(plugin.Keyed)
	if !here {
		return nil
	}
	ipam, _ := n.plugins[conf.Network.IPAM.Type].(plugin.Keyed)
	return plugin.UnknownKeys(conf.Bytes, p, ipam)
}

// logConf tells of a change of the configuration.
func (n *Network) logConf(now *network, skipped []error, err error) {
	for _, s := range skipped {
		n.log.WithError(s).Warn("network configuration passed over")
	}
	if err != nil {
		n.log.WithError(err).Debug("no network configuration")
		return
	}
	n.log.WithFields(logrus.Fields{"op": "load network " + now.list.Name + " of " + now.file}).Info("network configuration loaded")
	for _, p := range now.list.Plugins {
		for _, key := range n.unknownKeys(p) {
			n.log.WithFields(logrus.Fields{"op": fmt.Sprintf("read %q of plugin %s in %s", key, p.Network.Type, now.file)}).Warn("unknown key in network configuration")
		}
	}
}
