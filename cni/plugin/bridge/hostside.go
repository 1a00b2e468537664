package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// Errors of the host's side.
var (
	ErrNotBridge   = errors.New("is not a bridge")
	ErrOtherOwner  = errors.New("belongs to another berth")
	ErrOtherSubnet = errors.New("has an address of another subnet")
	ErrOverlap     = errors.New("overlaps a network that the host has a route to")
	ErrFull        = errors.New("has no free port, a bridge holds 1023")
)

// memoTTL is how long a bridge is believed to be as it was made. One that is gone is noticed at once, by its index.
const memoTTL = 10 * time.Second

// hostSide is the bridges of the host, and what is on them.
type hostSide struct {
	host    *link.Space
	reports *nft.Reports

	mu    sync.Mutex
	known map[string]*known    // bridges by name
	fresh map[int][]netip.Addr // addresses of bridges, by index, that were given just now, and that nobody has waited for
}

// known is what a bridge was found or made to be.
type known struct {
	bridge   *netlink.Bridge
	owner    string
	promisc  bool
	until    time.Time
	gateways map[netip.Prefix]bool // that it, not an interface in a VLAN, has as addresses
}

func newHostSide(host *link.Space, reports *nft.Reports) *hostSide {
	return &hostSide{host: host, reports: reports, known: map[string]*known{}}
}

// recall returns what is known of a bridge, nil when that is too little; mu is held.
func (s *hostSide) recall(conf *config) *known {
	k := s.known[conf.Bridge]
	if k == nil || time.Now().After(k.until) || k.owner != conf.Owner || (conf.PromiscMode && !k.promisc) {
		return nil
	}
	return k
}

// forget has a bridge looked up again. It is false when that was to be done anyhow.
func (s *hostSide) forget(conf *config) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.known[conf.Bridge]
	delete(s.known, conf.Bridge)
	return ok
}

// ensure returns the bridge, made and up.
func (s *hostSide) ensure(conf *config) (*netlink.Bridge, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.recall(conf); k != nil {
		return k.bridge, nil
	}
	br, err := s.bridge(conf)
	if err != nil {
		return nil, err
	}
	if br == nil {
		if err := s.makeBridge(conf); err != nil {
			return nil, err
		}
		if br, err = s.bridge(conf); err != nil {
			return nil, err
		}
		if br == nil {
			return nil, fmt.Errorf("bridge %s: gone while it was set up", conf.Bridge)
		}
	}
	if conf.PromiscMode && br.Promisc == 0 {
		if err := s.host.Netlink().SetPromiscOn(br); err != nil {
			return nil, fmt.Errorf("set bridge %s promiscuous: %w", conf.Bridge, err)
		}
	}
	if err := s.flood(conf, br); err != nil {
		return nil, err
	}
	s.quiet(conf)
	if br.RawFlags&syscall.IFF_UP == 0 {
		if err := s.host.Netlink().LinkSetUp(br); err != nil {
			return nil, fmt.Errorf("bring up bridge %s: %w", conf.Bridge, err)
		}
	}
	s.known[conf.Bridge] = &known{
		bridge: br, owner: conf.Owner, promisc: conf.PromiscMode, until: time.Now().Add(memoTTL), gateways: map[netip.Prefix]bool{},
	}
	return br, nil
}

// bridge looks the bridge up, nil when there is none.
func (s *hostSide) bridge(conf *config) (*netlink.Bridge, error) {
	l, err := s.host.Link(conf.Bridge)
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
		return br, s.adopt(conf, br)
	}
	return nil, plugin.Keyf("bridge", "%s %w, at %s", conf.Bridge, ErrOtherOwner, br.Alias)
}

// adopt takes a bridge that nobody has named or given an address: we were killed right after making it.
func (s *hostSide) adopt(conf *config, br *netlink.Bridge) error {
	have, err := s.host.Addresses(br.Index)
	if err != nil {
		return err
	}
	for _, a := range have {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			return plugin.Keyf("bridge", "%s %w: it has the address %s, and is not one of ours", conf.Bridge, ErrOtherOwner, a.Prefix)
		}
	}
	if err := s.host.Netlink().LinkSetAlias(br, conf.Owner); err != nil {
		return fmt.Errorf("name owner of bridge %s: %w", conf.Bridge, err)
	}
	return nil
}

// flood has a bridge of berth's own pass multicast to all ports, as it does in any case while no querier is on it (br_multicast_querier_exists).
// With snooping the kernel also keeps timers for each port, and sets those of all when one comes up (br_port_state_selection).
func (s *hostSide) flood(conf *config, br *netlink.Bridge) error {
	if conf.Owner == "" || br.MulticastSnooping == nil || !*br.MulticastSnooping {
		return nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = br.Name, br.Index
	if err := s.host.Netlink().BridgeSetMcastSnoop(&netlink.Bridge{LinkAttrs: attrs}, false); err != nil {
		return fmt.Errorf("turn off multicast snooping of bridge %s: %w", br.Name, err)
	}
	return nil
}

// ownPorts is the group (ip-link(8)) of the ports of a bridge of berth's own, "be" in ASCII.
const ownPorts = 0x6265

// quiet keeps reports of who listens to what multicast from berth's own bridge: nobody there listens to them.
func (s *hostSide) quiet(conf *config) {
	if conf.Owner != "" {
		_ = s.reports.Drop(ownPorts) // a kernel that has no such rules floods them: a node of many pods is slower for it
	}
}

func (s *hostSide) makeBridge(conf *config) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = conf.Bridge, conf.MTU, link.RandomMAC()
	br := &netlink.Bridge{LinkAttrs: attrs}
	if conf.VLAN != 0 || len(conf.trunks) > 0 {
		filtering := true
		br.VlanFiltering = &filtering
	}
	if err := s.host.Netlink().LinkAdd(br); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("add bridge %s: %w", conf.Bridge, err)
	}
	if conf.Owner != "" {
		if err := s.host.Netlink().LinkSetAlias(br, conf.Owner); err != nil {
			return errors.Join(fmt.Errorf("name owner of bridge %s: %w", conf.Bridge, err), s.host.DeleteAt(br.Index))
		}
	}
	// The routes of the bridge are ours. And its link-local address is used at once: while it is tentative, the host cannot ask
	// for the MAC addresses of IPv6 pods on behalf of others (ndisc_send_ns). Fails on a host without IPv6, which needs neither.
	variables := []link.Sysctl{{Name: "accept_ra", Value: "0"}}
	if !conf.EnableDAD {
		variables = append(variables, link.Sysctl{Name: "accept_dad", Value: "0"})
	}
	_ = s.host.SetSysctls("net/ipv6/conf/"+conf.Bridge, variables...)
	return nil
}

// ensureGateways gives the bridge, or its interface in a VLAN, the addresses that are the containers' gateways.
func (s *hostSide) ensureGateways(conf *config, on netlink.Link, gateways []netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.recall(conf)
	if k != nil && k.bridge.Index != on.Attrs().Index {
		k = nil
	}
	if k != nil {
		gateways = slices.DeleteFunc(slices.Clone(gateways), func(gw netip.Prefix) bool { return k.gateways[gw] })
	}
	if len(gateways) == 0 {
		return nil
	}
	have, err := s.host.Addresses(on.Attrs().Index)
	if err != nil {
		return err
	}
	for _, gw := range gateways {
		if !slices.ContainsFunc(have, func(a link.Address) bool { return a.Prefix == gw }) {
			if err := s.addGateway(conf, on, gw, have); err != nil {
				return err
			}
		}
		if k != nil {
			k.gateways[gw] = true
		}
	}
	return nil
}

// takeFresh returns the addresses that bridges were given since the last call: with the first port only a bridge has a carrier, and IPv6.
func (s *hostSide) takeFresh() map[int][]netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.fresh
	s.fresh = nil
	return fresh
}

// freshWait is how long a bridge may take to pass packets. A lost packet is no reason to have no pod.
const freshWait = time.Second

// awaitFresh returns when the addresses that bridges were given just now can be used: a bridge passes packets when the kernel's link watch has
// seen that its first port does, and drops them before.
func (s *hostSide) awaitFresh(ctx context.Context) {
	for index, addrs := range s.takeFresh() {
		ctx, cancel := context.WithTimeout(ctx, freshWait)
		if l, err := s.host.LinkAt(index); err == nil && l != nil {
			_ = s.host.AwaitUp(ctx, l.Attrs().Name) // a bridge with STP takes half a minute
		}
		podif.ReachableAt(ctx, s.host, index, addrs)
		cancel()
	}
}

func (s *hostSide) addGateway(conf *config, on netlink.Link, gw netip.Prefix, have []link.Address) error {
	index, name := on.Attrs().Index, on.Attrs().Name
	for _, a := range have {
		if a.Prefix.Addr().Is4() != gw.Addr().Is4() {
			continue
		}
		// IPv6 interfaces have several addresses, a link-local one at least. So has a bridge of berth's own whose subnet
		// was changed: pods that it has keep their gateway.
		if (gw.Addr().Is6() || conf.Owner != "") && !a.Prefix.Masked().Overlaps(gw.Masked()) {
			continue
		}
		if !conf.ForceAddress {
			return plugin.Keyf("bridge", "%s %w: %s, wanted %s", name, ErrOtherSubnet, a.Prefix, gw)
		}
		if err := s.host.DeleteAddress(index, a.Prefix); err != nil {
			return err
		}
	}
	if err := s.free(index, gw); err != nil {
		return err
	}
	batch := s.host.Batch()
	batch.AddAddress(index, gw, conf.EnableDAD)
	if err := batch.Run(); err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	if s.fresh == nil {
		s.fresh = map[int][]netip.Addr{}
	}
	s.fresh[index] = append(s.fresh[index], gw.Addr())
	// Without a MAC address set on purpose a bridge takes its lowest port's. One that we made has one.
	if err := s.host.Netlink().LinkSetHardwareAddr(on, on.Attrs().HardwareAddr); err != nil {
		return fmt.Errorf("pin MAC address of %s: %w", name, err)
	}
	return nil
}

// free refuses a subnet that the host is connected to by another interface, or part of which it is: one of the two could not be reached. So it
// does one that it has a route to which is taken before the bridge's. A wider network that the host is in may have pods within it.
func (s *hostSide) free(index int, gw netip.Prefix) error {
	routes, err := link.Whole(func() ([]netlink.Route, error) { return s.host.Netlink().RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.LinkIndex == index {
			continue
		}
		dst := link.Prefix(*r.Dst)
		if !dst.IsValid() || dst.Bits() < gw.Bits() || !dst.Overlaps(gw.Masked()) {
			continue
		}
		if r.Protocol != syscall.RTPROT_KERNEL && (dst.Bits() > gw.Bits() || r.Priority > connectedMetric(gw)) {
			continue
		}
		name := "several interfaces, or none"
		if l, err := s.host.LinkAt(r.LinkIndex); err == nil && l != nil {
			name = l.Attrs().Name
		}
		return plugin.Keyf("ipam", "subnet %s %w: %s of %s", gw.Masked(), ErrOverlap, dst, name)
	}
	return nil
}

// connectedMetric is that of the route which the kernel makes for an address (IP6_RT_PRIO_ADDRCONF; IPv4 has 0).
func connectedMetric(p netip.Prefix) int {
	if p.Addr().Is6() {
		return 256
	}
	return 0
}

// remove is Plugin.Remove.
func (s *hostSide) remove(name, owner string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, name)
	l, err := s.host.Link(name)
	if err != nil || l == nil || l.Type() != "bridge" || l.Attrs().Alias != owner || owner == "" {
		return err
	}
	return s.host.DeleteAt(l.Attrs().Index)
}
