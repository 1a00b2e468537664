package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

// Errors of the host's side.
var (
	ErrNotBridge   = errors.New("is not a bridge")
	ErrOtherOwner  = errors.New("belongs to another berth")
	ErrOtherSubnet = errors.New("has an address of another subnet")
	ErrOverlap     = errors.New("overlaps a network that the host is connected to")
	ErrFull        = errors.New("has no free port, a bridge holds 1023")
)

// ensureBridge returns the bridge, made and up.
func (p *Plugin) ensureBridge(conf *config) (*netlink.Bridge, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	br, err := p.bridge(conf)
	if err != nil {
		return nil, err
	}
	if br == nil {
		if err := p.makeBridge(conf); err != nil {
			return nil, err
		}
		if br, err = p.bridge(conf); err != nil {
			return nil, err
		}
		if br == nil {
			return nil, fmt.Errorf("bridge %s: gone while it was set up", conf.Bridge)
		}
	}
	if conf.PromiscMode && br.Promisc == 0 {
		if err := p.host.Netlink().SetPromiscOn(br); err != nil {
			return nil, fmt.Errorf("set bridge %s promiscuous: %w", conf.Bridge, err)
		}
	}
	if br.RawFlags&syscall.IFF_UP == 0 {
		if err := p.host.Netlink().LinkSetUp(br); err != nil {
			return nil, fmt.Errorf("bring up bridge %s: %w", conf.Bridge, err)
		}
	}
	return br, nil
}

// bridge looks the bridge up, nil when there is none.
func (p *Plugin) bridge(conf *config) (*netlink.Bridge, error) {
	l, err := p.host.Link(conf.Bridge)
	if err != nil || l == nil {
		return nil, err
	}
	br, ok := l.(*netlink.Bridge)
	if !ok {
		return nil, plugin.Keyf("bridge", "%s %w, it is of type %s", conf.Bridge, ErrNotBridge, l.Type())
	}
	if conf.Owner == "" || br.Alias == conf.Owner {
		return br, nil
	}
	if br.Alias == "" {
		return br, p.adopt(conf, br)
	}
	return nil, plugin.Keyf("bridge", "%s %w, at %s", conf.Bridge, ErrOtherOwner, br.Alias)
}

// adopt takes a bridge that nobody has named or given an address: we were killed right after making it.
func (p *Plugin) adopt(conf *config, br *netlink.Bridge) error {
	have, err := p.host.Addresses(br.Index)
	if err != nil {
		return err
	}
	for _, a := range have {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			return plugin.Keyf("bridge", "%s %w: it has the address %s, and is not one of ours", conf.Bridge, ErrOtherOwner, a.Prefix)
		}
	}
	if err := p.host.Netlink().LinkSetAlias(br, conf.Owner); err != nil {
		return fmt.Errorf("name owner of bridge %s: %w", conf.Bridge, err)
	}
	return nil
}

func (p *Plugin) makeBridge(conf *config) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = conf.Bridge, conf.MTU, link.RandomMAC()
	br := &netlink.Bridge{LinkAttrs: attrs}
	if conf.VLAN != 0 || len(conf.trunks) > 0 {
		filtering := true
		br.VlanFiltering = &filtering
	}
	if err := p.host.Netlink().LinkAdd(br); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("add bridge %s: %w", conf.Bridge, err)
	}
	if conf.Owner != "" {
		if err := p.host.Netlink().LinkSetAlias(br, conf.Owner); err != nil {
			return errors.Join(fmt.Errorf("name owner of bridge %s: %w", conf.Bridge, err), p.host.DeleteAt(br.Index))
		}
	}
	// The routes of the bridge are ours. And its link-local address is used at once: while it is tentative, the host cannot ask
	// for the MAC addresses of IPv6 pods on behalf of others (ndisc_send_ns). Fails on a host without IPv6, which needs neither.
	variables := []link.Sysctl{{Name: "accept_ra", Value: "0"}}
	if !conf.EnableDAD {
		variables = append(variables, link.Sysctl{Name: "accept_dad", Value: "0"})
	}
	_ = p.host.SetSysctls("net/ipv6/conf/"+conf.Bridge, variables...)
	return nil
}

// ensureGateways gives the bridge, or its interface in a VLAN, the addresses that are the containers' gateways.
func (p *Plugin) ensureGateways(conf *config, on netlink.Link, gateways []netip.Prefix) error {
	if len(gateways) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	have, err := p.host.Addresses(on.Attrs().Index)
	if err != nil {
		return err
	}
	for _, gw := range gateways {
		if slices.ContainsFunc(have, func(a link.Address) bool { return a.Prefix == gw }) {
			continue
		}
		if err := p.addGateway(conf, on, gw, have); err != nil {
			return err
		}
	}
	return nil
}

// takeFresh returns the addresses that bridges were given since the last call: with the first port only a bridge has a carrier, and IPv6.
func (p *Plugin) takeFresh() map[string][]netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.fresh
	p.fresh = nil
	return fresh
}

func (p *Plugin) addGateway(conf *config, on netlink.Link, gw netip.Prefix, have []link.Address) error {
	index, name := on.Attrs().Index, on.Attrs().Name
	for _, a := range have {
		if a.Prefix.Addr().Is4() != gw.Addr().Is4() {
			continue
		}
		// IPv6 interfaces have several addresses, a link-local one at least.
		if gw.Addr().Is6() && !a.Prefix.Masked().Overlaps(gw.Masked()) {
			continue
		}
		if !conf.ForceAddress {
			return plugin.Keyf("bridge", "%s %w: %s, wanted %s", name, ErrOtherSubnet, a.Prefix, gw)
		}
		if err := p.host.DeleteAddress(index, a.Prefix); err != nil {
			return err
		}
	}
	if err := p.free(index, gw); err != nil {
		return err
	}
	if err := p.host.AddAddress(index, gw, conf.EnableDAD); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	if p.fresh == nil {
		p.fresh = map[string][]netip.Addr{}
	}
	p.fresh[name] = append(p.fresh[name], gw.Addr())
	// Without a MAC address set on purpose a bridge takes its lowest port's. One that we made has one.
	if err := p.host.Netlink().LinkSetHardwareAddr(on, on.Attrs().HardwareAddr); err != nil {
		return fmt.Errorf("pin MAC address of %s: %w", name, err)
	}
	return nil
}

// free refuses a subnet that the host is connected to by another interface, or part of which it is: one of the two could not be reached. A
// wider network that the host is in may have pods within it.
func (p *Plugin) free(index int, gw netip.Prefix) error {
	routes, err := link.Whole(func() ([]netlink.Route, error) { return p.host.Netlink().RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.LinkIndex == index || r.Protocol != syscall.RTPROT_KERNEL {
			continue
		}
		dst := link.Prefix(*r.Dst)
		if !dst.IsValid() || dst.Bits() < gw.Bits() || !dst.Overlaps(gw.Masked()) {
			continue
		}
		name := fmt.Sprint("interface ", r.LinkIndex)
		if l, err := p.host.LinkAt(r.LinkIndex); err == nil && l != nil {
			name = l.Attrs().Name
		}
		return plugin.Keyf("ipam", "subnet %s %w: %s of %s", gw.Masked(), ErrOverlap, dst, name)
	}
	return nil
}

// Remove removes a bridge that carries this owner's name. It waits for the kernel, and is no error when there is no such bridge.
func (p *Plugin) Remove(name, owner string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := p.host.Link(name)
	if err != nil || l == nil || l.Type() != "bridge" || l.Attrs().Alias != owner || owner == "" {
		return err
	}
	return p.host.DeleteAt(l.Attrs().Index)
}
