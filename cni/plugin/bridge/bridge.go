package bridge

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/podif"
	"github.com/berth-runtime/berth/cni/plugin/router"
)

// Plugin is the bridge plugin.
type Plugin struct {
	host   *link.Space
	side   *hostSide
	tables *nft.Tables
	guard  *nft.Guard
	reaper *link.Reaper
	router *router.Router

	sysctls link.Sysctls // of containers
}

var _ plugin.Plugin = (*Plugin)(nil)

// New makes bridges in host, masquerades by tables, holds ports to their MAC addresses by guard, spares berth's own bridge the reports of
// multicast, and leaves veth pairs to reaper. All of them stay the caller's.
func New(host *link.Space, tables *nft.Tables, guard *nft.Guard, reports *nft.Reports, reaper *link.Reaper) *Plugin {
	return &Plugin{host: host, side: newHostSide(host, reports), tables: tables, guard: guard, reaper: reaper, router: router.New(host)}
}

// Close gives up what the plugin holds open.
func (p *Plugin) Close() { p.sysctls.Close() }

// Remove removes a bridge that carries this owner's name. It waits for the kernel, and is no error when there is no such bridge.
func (p *Plugin) Remove(name, owner string) error { return p.side.remove(name, owner) }

// Keys are those of the configuration.
func (*Plugin) Keys() any { return config{} }

// Supports is always nil.
func (p *Plugin) Supports([]byte) error { return nil }

// Add joins the container to the bridge.
func (p *Plugin) Add(ctx context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c)
	if err != nil {
		return nil, err
	}
	br, err := p.side.ensure(conf)
	if err != nil {
		return nil, err
	}
	var v *pair
	result, looks := &types100.Result{}, c.Looks(conf.IPAM.Type)
	if looks {
		if v, err = p.addPair(conf, c, br, macFor(conf, result)); err != nil {
			return nil, err
		}
		if err := p.setUp(ctx, conf, c, v, podif.Interface.Expect); err != nil {
			return nil, err
		}
	}
	if conf.IPAM.Type != "" {
		if result, err = c.Allocate(ctx, conf.IPAM.Type, conf.DNS); err != nil {
			return nil, err
		}
	}
	gateways := addGateways(conf, result)
	if v == nil {
		if v, err = p.addPair(conf, c, br, macFor(conf, result)); err != nil {
			return nil, err
		}
	}
	result.Interfaces = []*types100.Interface{
		{Name: conf.Bridge, Mac: v.bridge.HardwareAddr.String()},
		{Name: v.host, Mac: v.hostMAC.String()},
		{Name: v.pod, Mac: v.podMAC.String(), Sandbox: c.NetNS},
	}
	configure := func(on podif.Interface) error { return on.Configure(result) }
	if err := p.setUp(ctx, conf, c, v, configure); err != nil {
		return nil, err
	}
	if err := p.serve(ctx, conf, c, v, gateways, result); err != nil {
		return nil, err
	}
	if looks { // the MAC address was there before the addresses, and is not that of who had them before
		podif.Interface{Pod: c.Pod, Name: c.IfName, Sysctls: &p.sysctls}.Announce()
	}
	return result, nil
}

// macFor is the MAC address of the container: as asked for, or that of its first address.
func macFor(conf *config, result *types100.Result) net.HardwareAddr {
	if conf.mac != nil {
		return conf.mac
	}
	for _, ip := range result.IPs {
		if p := link.Prefix(ip.Address); p.IsValid() {
			return link.MACFor(p.Addr())
		}
	}
	return link.RandomMAC()
}

// setUp brings the pair up: the container's end first, as configure does, with all that it has. When the host's end follows, there is a carrier at once, and
// the kernel need not take the port out of the bridge and in again.
func (p *Plugin) setUp(ctx context.Context, conf *config, c *plugin.Call, v *pair, configure func(podif.Interface) error) error {
	on := podif.Interface{Pod: c.Pod, Name: c.IfName, Index: v.podIndex, Sysctls: &p.sysctls, DAD: conf.EnableDAD}
	if !conf.DisableContainerInterface {
		if err := configure(on); err != nil {
			return err
		}
	}
	if conf.MACSpoofCheck {
		if err := p.guard.Hold(c.Owner(), v.host, v.podMAC); err != nil {
			return err
		}
	}
	batch := p.host.Batch()
	batch.UpPort(v.host, link.Port{Hairpin: conf.HairpinMode, Isolated: conf.PortIsolation})
	port := batch.Look(v.host)
	if err := batch.Run(); err != nil || conf.DisableContainerInterface {
		return err
	}
	if !port.Up {
		if err := p.host.AwaitUp(ctx, v.host); err != nil {
			return err
		}
	}
	if err := c.Pod.AwaitUp(ctx, c.IfName); err != nil || !conf.EnableDAD {
		return err
	}
	return on.Settle(ctx)
}

// serve makes the host a gateway for the container, as far as it is to be one.
func (p *Plugin) serve(ctx context.Context, conf *config, c *plugin.Call, v *pair, gateways []netip.Prefix, result *types100.Result) error {
	on := netlink.Link(v.bridge)
	if conf.VLAN != 0 && len(gateways) > 0 {
		l, err := p.side.ensureVLAN(conf, v.bridge)
		if err != nil {
			return err
		}
		on = l
		result.Interfaces = append(result.Interfaces, &types100.Interface{Name: l.Attrs().Name, Mac: l.Attrs().HardwareAddr.String()})
	}
	if err := p.side.ensureGateways(conf, on, gateways); err != nil {
		return err
	}
	if err := p.router.Forward(gateways); err != nil {
		return err
	}
	p.side.awaitFresh(ctx)
	if !conf.IPMasq || conf.IPAM.Type == "" {
		return nil
	}
	addrs, err := podif.Addresses(result)
	if err != nil {
		return err
	}
	return p.tables.Masquerade(conf.Name, c.Owner(), addrs, conf.direct)
}

// addGateways completes the result: all addresses are the container's; a gateway, where the IPAM plugin named none, is the first
// address of the subnet; the default gateway is the first of each family. It returns the bridge's addresses.
func addGateways(conf *config, result *types100.Result) []netip.Prefix {
	var gateways []netip.Prefix
	for _, ip := range result.IPs {
		ip.Interface = types100.Int(2)
		p := link.Prefix(ip.Address)
		if !conf.IsGateway || !p.IsValid() {
			continue
		}
		if ip.Gateway == nil {
			ip.Gateway = p.Masked().Addr().Next().AsSlice()
		}
		if conf.IsDefaultGateway {
			addDefault(result, p.Addr().Is4(), ip.Gateway)
		}
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			gateways = append(gateways, netip.PrefixFrom(gw.Unmap(), p.Bits()))
		}
	}
	return gateways
}

func addDefault(result *types100.Result, v4 bool, gw net.IP) {
	all := net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	if v4 {
		all = net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	for _, r := range result.Routes {
		if r.GW != nil && r.Dst.String() == all.String() {
			return
		}
	}
	result.Routes = append(result.Routes, &types.Route{Dst: all, GW: gw})
}

// Del gives back what the container has. Its namespace may be gone.
func (p *Plugin) Del(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(&plugin.Call{Config: c.Config})
	if err != nil {
		return err
	}
	return c.Release(ctx, conf.IPAM.Type, func() error {
		var errs []error
		if c.Pod != nil {
			errs = append(errs, podif.Detach(c.Pod, c.IfName, p.reaper))
		}
		if conf.MACSpoofCheck {
			errs = append(errs, p.guard.Release(c.Owner()))
		}
		if conf.IPMasq {
			errs = append(errs, p.tables.ReleaseMasquerade(conf.Name, c.Owner()))
		}
		return errors.Join(errs...)
	})
}

// Status asks the IPAM plugin.
func (p *Plugin) Status(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c)
	if err != nil {
		return err
	}
	return c.TellIPAM(ctx, "STATUS", conf.IPAM.Type)
}

// GC releases the masquerading of attachments that are not valid, and has the IPAM plugin release their addresses.
func (p *Plugin) GC(ctx context.Context, c *plugin.Call, valid []types.GCAttachment) error {
	conf, err := parse(c)
	if err != nil {
		return err
	}
	return errors.Join(p.tables.KeepMasquerade(conf.Name, plugin.Valid(valid)), c.TellIPAM(ctx, "GC", conf.IPAM.Type))
}
