package cni

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-runtime/berth/cni/plugin"
)

// ready says why no pod can be attached to a network: what our plugins have against its configuration, and which binary is not there.
func (r *runner) ready(ctx context.Context, net *network) error {
	net.check.Do(func() {
		for _, p := range net.list.Plugins {
			if err := r.checkPlugin(ctx, net, p); err != nil {
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
			if name == "" || (r.plugins[name] != nil && net.foreign[name] == nil) {
				continue
			}
			if _, err := findBinary(name, r.binDirs); err != nil {
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
func (r *runner) checkPlugin(ctx context.Context, net *network, conf *libcni.PluginConfig) error {
	p, here := r.plugins[conf.Network.Type]
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
	if key := r.unknownOwn(conf); key != "" {
		return plugin.Keyf(key, "there is no such key")
	}
	call := &plugin.Call{Config: whole.Bytes}
	call.IPAM = func(ctx context.Context, _, name string) (*types100.Result, error) {
		if ipam, here := r.plugins[name]; here {
			return nil, ipam.Status(ctx, call)
		}
		return nil, nil
	}
	return p.Status(ctx, call) // of ours: reads what it is given, and waits for nothing
}

// unknown are the keys that nobody reads of a plugin that runs here.
func (r *runner) unknown(conf *libcni.PluginConfig) []string {
	p, here := r.plugins[conf.Network.Type].(plugin.Keyed)
	if !here {
		return nil
	}
	ipam, _ := r.plugins[conf.Network.IPAM.Type].(plugin.Keyed)
	return plugin.UnknownKeys(conf.Bytes, p, ipam)
}

// unknownOwn is one of them that can only be meant for us, "" when there is none. Others may be for another program, and are warned of.
func (r *runner) unknownOwn(conf *libcni.PluginConfig) string {
	for _, key := range r.unknown(conf) {
		if name := key[strings.LastIndexByte(key, '.')+1:]; strings.HasPrefix(strings.ToLower(name), ownPrefix) {
			return key
		}
	}
	return ""
}

// ownPrefix is what the keys begin with that only the plugins here know.
const ownPrefix = "berth"

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
