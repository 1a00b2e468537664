package cni

import (
	"context"
	"errors"
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
	for _, p := range net.list.Plugins {
		if err := n.checkPlugin(net, p); err != nil {
			return fmt.Errorf("%w: %s: plugin %s: %w", ErrNotReady, net, p.Network.Type, err)
		}
	}
	if reported != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotReady, net, reported)
	}
	return nil
}

// checkPlugin holds the configuration of a plugin of ours against its rules, and looks whether another's binary is there.
func (n *Network) checkPlugin(net *network, conf *libcni.PluginConfig) error {
	p, here := n.plugins[conf.Network.Type]
	if !here {
		_, err := findBinary(conf.Network.Type, n.cfg.BinDirs)
		return err
	}
	whole, err := libcni.InjectConf(conf, map[string]any{"name": net.list.Name, "cniVersion": net.list.CNIVersion})
	if err != nil {
		return err
	}
	if err := p.Supports(whole.Bytes); err != nil {
		if _, missing := findBinary(conf.Network.Type, n.cfg.BinDirs); missing != nil {
			return errors.Join(err, missing)
		}
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
		_, err := findBinary(name, n.cfg.BinDirs)
		return nil, err
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

// logConf tells of a change of the configuration.
func (n *Network) logConf(now *network, skipped []error, err error) {
	for _, s := range skipped {
		n.log.WithError(s).Warn("network configuration passed over")
	}
	if err != nil {
		n.log.WithError(err).Debug("no network configuration")
		return
	}
	n.log.WithFields(logrus.Fields{"network": now.list.Name, "file": now.file}).Info("network configuration loaded")
}
