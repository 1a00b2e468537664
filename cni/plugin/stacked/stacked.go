package stacked

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// ErrNoMaster says that the interface to stand on is not there.
var ErrNoMaster = errors.New("no such interface")

// Plugin is one of the three plugins.
type Plugin struct {
	plugin.Leased
	kind    Kind
	host    *link.Space
	sysctls *link.Sysctls
}

var _ plugin.Plugin = (*Plugin)(nil)

// New makes interfaces of a kind on those of host, and writes containers' variables by sysctls. Both stay the caller's.
func New(kind Kind, host *link.Space, sysctls *link.Sysctls) *Plugin {
	return &Plugin{Leased: kind.leased, kind: kind, host: host, sysctls: sysctls}
}

func (k Kind) leased(c *plugin.Call) (string, error) {
	conf, err := k.parse(c)
	if err != nil {
		return "", err
	}
	return conf.IPAM.Type, nil
}

// Keys are those of the configuration.
func (*Plugin) Keys() any { return config{} }

// Supports is always nil.
func (p *Plugin) Supports([]byte) error { return nil }

// Add gives the container its interface.
func (p *Plugin) Add(ctx context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := p.kind.parse(c)
	if err != nil {
		return nil, err
	}
	previous, err := plugin.Previous(c.Config)
	if err != nil {
		return nil, err
	}
	master, err := p.master(conf, c, previous)
	if err != nil {
		return nil, err
	}
	if p.kind != IPvlan && conf.MTU > master.Attrs().MTU {
		return nil, plugin.Keyf("mtu", "%d is more than the %d of %s", conf.MTU, master.Attrs().MTU, master.Attrs().Name)
	}
	var result *types100.Result
	looks, mac := c.Looks(conf.IPAM.Type), ""
	if !looks { // when there are no addresses, nothing is to be undone
		if result, err = p.addresses(ctx, conf, c, previous); err != nil {
			return nil, err
		}
	}
	if mac, err = p.make(conf, c, master); err != nil {
		return nil, err
	}
	on := podif.Interface{Pod: c.Pod, Name: c.IfName, Sysctls: p.sysctls, Routers: true}
	if looks {
		if err := on.Expect(); err != nil {
			return nil, err
		}
		if result, err = p.addresses(ctx, conf, c, previous); err != nil {
			return nil, err
		}
	} else if p.kind != VLAN {
		on.Notify()
	}
	result.Interfaces = []*types100.Interface{{Name: c.IfName, Mac: mac, Sandbox: c.NetNS}}
	result.DNS = conf.DNS
	if err := on.Configure(result); err != nil {
		return nil, err
	}
	if looks && p.kind != VLAN { // the interface came up without addresses
		on.Announce()
	}
	return result, nil
}

// master finds the interface to stand on: the named one, for ipvlan in a chain that of the plugin before, or that of the default route.
func (p *Plugin) master(conf *config, c *plugin.Call, previous *types100.Result) (netlink.Link, error) {
	space := p.host
	if conf.LinkInContainer {
		space = c.Pod
	}
	name := conf.Master
	if name == "" && p.kind == IPvlan && previous != nil {
		if len(previous.Interfaces) != 1 || previous.Interfaces[0].Name == "" {
			return nil, plugin.Keyf("master", "missing, and the plugin before has not made one interface to stand on")
		}
		name = previous.Interfaces[0].Name
	}
	if name == "" {
		return defaultRoute(space)
	}
	l, err := space.Link(name)
	if err == nil && l == nil {
		err = plugin.Keyf("master", "%s: %w", name, ErrNoMaster)
	}
	return l, err
}

// defaultRoute is the interface of the space's default route.
func defaultRoute(space *link.Space) (netlink.Link, error) {
	routes, err := link.Whole(func() ([]netlink.Route, error) { return space.Netlink().RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && !link.Prefix(*r.Dst).Addr().IsUnspecified() || r.LinkIndex == 0 {
			continue
		}
		if l, err := space.LinkAt(r.LinkIndex); err != nil || l != nil {
			return l, err
		}
	}
	return nil, plugin.Keyf("master", "missing, and there is no default route: %w", ErrNoMaster)
}

// addresses are those that the IPAM plugin gives, or, for ipvlan in a chain without one, those of the plugin before. A macvlan can do
// without any.
func (p *Plugin) addresses(ctx context.Context, conf *config, c *plugin.Call, previous *types100.Result) (*types100.Result, error) {
	result := &types100.Result{}
	switch {
	case conf.IPAM.Type != "":
		got, err := c.Allocate(ctx, conf.IPAM.Type, types.DNS{})
		if err != nil {
			return nil, err
		}
		result.IPs, result.Routes = got.IPs, got.Routes
	case p.kind == IPvlan && (previous == nil || len(previous.IPs) == 0):
		return nil, plugin.Keyf("ipam.type", "missing, and no plugin before gave an address")
	case p.kind == IPvlan:
		result.IPs, result.Routes = previous.IPs, previous.Routes
	}
	for _, ip := range result.IPs {
		ip.Interface = types100.Int(0)
	}
	return result, nil
}

// make makes the interface in the container and returns its MAC address.
func (p *Plugin) make(conf *config, c *plugin.Call, master netlink.Link) (string, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.ParentIndex = c.IfName, conf.MTU, master.Attrs().Index
	space := c.Pod
	if !conf.LinkInContainer {
		space, attrs.Namespace = p.host, netlink.NsFd(c.Pod.FD())
	}
	if err := space.Netlink().LinkAdd(p.kind.link(conf, attrs)); err != nil {
		if errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("the name, or what it asks of %s, is taken: %w", master.Attrs().Name, err)
		}
		return "", fmt.Errorf("make %s %s: %w", p.kind, c.IfName, err)
	}
	l, err := c.Pod.Link(c.IfName)
	if err != nil {
		return "", err
	}
	if l == nil {
		return "", fmt.Errorf("interface %s: gone while it was set up", c.IfName)
	}
	return l.Attrs().HardwareAddr.String(), nil
}

// Del removes the interface, if it is one of the plugin's, and gives its addresses back.
func (p *Plugin) Del(ctx context.Context, c *plugin.Call) error {
	conf := &config{}
	if err := plugin.Decode(c.Config, conf); err != nil {
		return err
	}
	return c.Release(ctx, conf.IPAM.Type, func() error {
		if c.Pod == nil {
			return nil
		}
		l, err := c.Pod.Link(c.IfName)
		if err != nil || l == nil || l.Type() != string(p.kind) {
			return err
		}
		return c.Pod.DeleteAt(l.Attrs().Index)
	})
}

// Check compares the interface with the configuration and the result of the Add.
func (p *Plugin) Check(ctx context.Context, c *plugin.Call) error {
	conf, err := p.kind.parse(c)
	if err != nil {
		return err
	}
	result, l, err := c.CheckIPAM(ctx, conf.IPAM.Type)
	if err != nil {
		return err
	}
	if l == nil || !p.kind.same(conf, l) {
		return fmt.Errorf("interface %s %w: it is no %s as configured", c.IfName, podif.ErrChanged, p.kind)
	}
	if master, err := p.master(conf, c, nil); err == nil && master.Attrs().Index != l.Attrs().ParentIndex && conf.Master != "" {
		return fmt.Errorf("interface %s %w: it does not stand on %s", c.IfName, podif.ErrChanged, conf.Master)
	} else if err != nil && conf.Master != "" {
		return err
	}
	return podif.Check(c.Pod, c.IfName, result)
}
