package ptp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/podif"
	"github.com/berth-runtime/berth/cni/plugin/router"
)

// Plugin is the ptp plugin.
type Plugin struct {
	host    *link.Space
	tables  *nft.Tables
	reaper  *link.Reaper
	router  *router.Router
	sysctls *link.Sysctls
}

var _ plugin.Plugin = (*Plugin)(nil)

// New joins containers to host, masquerades by tables, leaves veth pairs to reaper and writes containers' variables by sysctls. All stay
// the caller's.
func New(host *link.Space, tables *nft.Tables, reaper *link.Reaper, sysctls *link.Sysctls) *Plugin {
	return &Plugin{host: host, tables: tables, reaper: reaper, router: router.New(host), sysctls: sysctls}
}

type config struct {
	Name          string    `json:"name"`
	IPMasq        bool      `json:"ipMasq"`
	IPMasqBackend *string   `json:"ipMasqBackend"`
	MTU           int       `json:"mtu"`
	DNS           types.DNS `json:"dns"`
	IPAM          struct {
		Type string `json:"type"`
	} `json:"ipam"`
}

func parse(data []byte) (*config, error) {
	c := &config{}
	if err := plugin.Decode(data, c); err != nil {
		return nil, err
	}
	switch {
	case c.IPAM.Type == "":
		return nil, plugin.Keyf("ipam.type", "missing")
	case c.MTU < 0 || c.MTU > 65535:
		return nil, plugin.Keyf("mtu", "%d is not between 0 and 65535", c.MTU)
	case c.IPMasqBackend != nil && *c.IPMasqBackend != "nftables" && *c.IPMasqBackend != "iptables":
		return nil, plugin.Keyf("ipMasqBackend", "%q is none of iptables, nftables", *c.IPMasqBackend)
	}
	return c, nil
}

// Keys are those of the configuration.
func (*Plugin) Keys() any { return config{} }

// Supports is always nil.
func (p *Plugin) Supports([]byte) error { return nil }

// Add joins the container to the host.
func (p *Plugin) Add(ctx context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c.Config)
	if err != nil {
		return nil, err
	}
	result, err := c.Allocate(ctx, conf.IPAM.Type, conf.DNS)
	if err != nil {
		return nil, err
	}
	addrs, err := podif.Addresses(result)
	if err != nil {
		return nil, err
	}
	for i, ip := range result.IPs {
		if len(ip.Gateway) == 0 {
			return nil, fmt.Errorf("ipam %s: address %s has no gateway, which the host would have to be", conf.IPAM.Type, addrs[i])
		}
		ip.Interface = types100.Int(1)
	}
	if err := p.router.Forward(addrs); err != nil {
		return nil, err
	}
	v := link.Veth{
		Name: link.RandomName(), MAC: link.RandomMAC(), Pod: c.Pod, PodName: c.IfName, PodMAC: link.MACFor(addrs[0].Addr()), MTU: conf.MTU,
	}
	index, err := p.addPair(c, v)
	if err != nil {
		return nil, err
	}
	result.Interfaces = []*types100.Interface{
		{Name: v.Name, Mac: v.MAC.String()}, {Name: c.IfName, Mac: v.PodMAC.String(), Sandbox: c.NetNS},
	}
	// The container's end first: when the host's follows, both have a carrier.
	on := podif.Interface{Pod: c.Pod, Name: c.IfName, Index: index.Peer, Sysctls: p.sysctls, Alone: true}
	if err := on.Configure(result); err != nil {
		return nil, err
	}
	if err := p.setUpHost(v.Name, index.Index, result); err != nil {
		return nil, fmt.Errorf("interface %s: %w", v.Name, err)
	}
	if err := p.host.AwaitUp(ctx, v.Name); err != nil {
		return nil, err
	}
	if err := c.Pod.AwaitUp(ctx, c.IfName); err != nil {
		return nil, err
	}
	podif.ReachableAt(ctx, p.host, index.Index, gateways(result)) // the container asks for them
	if !conf.IPMasq {
		return result, nil
	}
	return result, p.tables.Masquerade(conf.Name, c.Owner(), addrs, nil)
}

// addPair makes the pair, both ends down. A veth of the wanted name that only waits for the reaper goes first.
func (p *Plugin) addPair(c *plugin.Call, v link.Veth) (*link.Found, error) {
	add := func() (*link.Found, error) {
		batch := p.host.Batch()
		batch.AddVeth(v)
		found := batch.Look(v.Name)
		return found, batch.Run()
	}
	found, err := add()
	if !errors.Is(err, syscall.EEXIST) {
		return found, err
	}
	if err := podif.Clear(c.Pod, c.IfName, p.reaper); err != nil {
		return nil, err
	}
	return add()
}

// setUpHost makes the host's end the gateway, and routes to the container by it.
func (p *Plugin) setUpHost(name string, index int, result *types100.Result) error {
	// The end has a link-local address, by which the host asks for the container's MAC address on behalf of others. It is used at once.
	// Fails on a host without IPv6.
	_ = p.host.SetSysctls("net/ipv6/conf/"+name, link.Sysctl{Name: "accept_dad", Value: "0"}, link.Sysctl{Name: "accept_ra", Value: "0"})
	batch := p.host.Batch()
	for _, gw := range gateways(result) {
		batch.AddAddress(index, whole(gw), false)
	}
	batch.Up(index)
	for _, r := range hostRoutes(result) {
		batch.AddRoute(index, r)
	}
	return batch.Run()
}

func gateways(result *types100.Result) (out []netip.Addr) {
	for _, ip := range result.IPs {
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			out = append(out, gw.Unmap())
		}
	}
	return out
}

// hostRoutes lead from the host to the container's addresses. A route of an earlier container with the same address, whose end is not yet
// noticed, is replaced.
func hostRoutes(result *types100.Result) []link.Route {
	var out []link.Route
	for _, ip := range result.IPs {
		out = append(out, link.Route{Dst: whole(link.Prefix(ip.Address).Addr()), Scope: int(netlink.SCOPE_HOST), Replace: true})
	}
	return out
}

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Del gives back what the container has. Its namespace may be gone.
func (p *Plugin) Del(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c.Config)
	if err != nil {
		return err
	}
	var errs []error
	if c.Pod != nil {
		errs = append(errs, p.detach(c))
	}
	if conf.IPMasq {
		errs = append(errs, p.tables.ReleaseMasquerade(conf.Name, c.Owner()))
	}
	if err := errors.Join(errs...); err != nil {
		return err // an address that is still in use must not be given out again
	}
	return c.TellIPAM(ctx, "DEL", conf.IPAM.Type)
}

// detach takes the host's routes to the container away, and then its addresses.
func (p *Plugin) detach(c *plugin.Call) error {
	l, err := c.Pod.Link(c.IfName)
	if err != nil || l == nil || l.Type() != "veth" {
		return err
	}
	addrs, err := c.Pod.Addresses(l.Attrs().Index)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		if err := p.host.DeleteRoute(l.Attrs().ParentIndex, whole(a.Prefix.Addr())); err != nil {
			return err
		}
	}
	return podif.Detach(c.Pod, c.IfName, p.reaper)
}

// Check compares the pair, the container's addresses and routes, and the host's routes to it with the result of the Add.
func (p *Plugin) Check(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c.Config)
	if err != nil {
		return err
	}
	result, l, err := c.CheckIPAM(ctx, conf.IPAM.Type)
	if err != nil {
		return err
	}
	if l == nil || l.Type() != "veth" {
		return fmt.Errorf("interface %s %w: it is no veth", c.IfName, podif.ErrChanged)
	}
	for _, ip := range result.IPs {
		routes, err := p.host.Netlink().RouteGet(ip.Address.IP)
		if err != nil || len(routes) == 0 || routes[0].LinkIndex != l.Attrs().ParentIndex {
			return fmt.Errorf("address %s %w: the host has no route to it", ip.Address.IP, podif.ErrChanged)
		}
	}
	return podif.Check(c.Pod, c.IfName, result)
}

// Status asks the IPAM plugin.
func (p *Plugin) Status(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c.Config)
	if err != nil {
		return err
	}
	return c.TellIPAM(ctx, "STATUS", conf.IPAM.Type)
}

// GC releases the masquerading of attachments that are not valid, and has the IPAM plugin release their addresses.
func (p *Plugin) GC(ctx context.Context, c *plugin.Call, valid []types.GCAttachment) error {
	conf, err := parse(c.Config)
	if err != nil {
		return err
	}
	return errors.Join(p.tables.KeepMasquerade(conf.Name, plugin.Valid(valid)), c.TellIPAM(ctx, "GC", conf.IPAM.Type))
}
