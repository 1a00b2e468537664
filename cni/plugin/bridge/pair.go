package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

const (
	// portWait is how long a new port may take to come up, as in the reference plugin. It takes some 100 µs.
	portWait = 2500 * time.Millisecond
	portPoll = 100 * time.Microsecond
	// dadWait is how long addresses may be tentative when the configuration wants duplicate address detection.
	dadWait = 5 * time.Second
	dadPoll = 20 * time.Millisecond
)

// ErrExists says that the container has an interface of this name already.
var ErrExists = errors.New("exists in the container")

// pair is a new veth pair.
type pair struct {
	host, pod string // names
	hostMAC   net.HardwareAddr
	podMAC    net.HardwareAddr
}

// addPair joins the container to the bridge. The end in the container is down, the other up.
func (p *Plugin) addPair(conf *config, c *plugin.Call, br *netlink.Bridge, mac net.HardwareAddr) (*pair, error) {
	for try := 0; ; try++ {
		v := &pair{host: link.RandomName(), pod: c.IfName, hostMAC: link.RandomMAC(), podMAC: mac}
		err := p.host.AddVeth(link.Veth{
			Name: v.host, MAC: v.hostMAC, Master: br.Index, Pod: c.Pod, PodName: v.pod, PodMAC: v.podMAC, MTU: conf.MTU,
		})
		switch {
		case err == nil:
			return v, p.setPort(conf, v.host)
		case errors.Is(err, syscall.EXFULL):
			return nil, plugin.Keyf("bridge", "%s %w: %w", conf.Bridge, ErrFull, err)
		case !errors.Is(err, syscall.EEXIST) || try == 10:
			return nil, err
		}
		if err := p.clear(c); err != nil {
			return nil, err
		}
	}
}

// clear removes an interface of the wanted name that is only waiting for the reaper.
func (p *Plugin) clear(c *plugin.Call) error {
	old, err := c.Pod.Link(c.IfName)
	if err != nil || old == nil {
		return err // it was the random name that was taken
	}
	if peer := old.Attrs().ParentIndex; old.Type() == "veth" && p.reaper.Has(peer) {
		return p.reaper.Now(peer)
	}
	return fmt.Errorf("interface %s %w", c.IfName, ErrExists)
}

func (p *Plugin) setPort(conf *config, name string) error {
	if err := p.host.UpPort(name, link.Port{Hairpin: conf.HairpinMode, Isolated: conf.PortIsolation}); err != nil {
		return err
	}
	if conf.VLAN == 0 && len(conf.trunks) == 0 {
		return nil
	}
	l, err := p.host.Link(name)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("interface %s: gone while it was set up", name)
	}
	return p.setVLANs(conf, l, conf.VLAN, conf.trunks)
}

// waitPort returns when the bridge forwards for the port: when the kernel's link watch has seen the carrier of both ends.
func (p *Plugin) waitPort(ctx context.Context, name string) error {
	deadline := time.Now().Add(portWait)
	for wait := portPoll; ; wait *= 2 {
		l, err := p.host.Link(name)
		if err != nil {
			return err
		}
		if l == nil {
			return fmt.Errorf("interface %s: gone while it was set up", name)
		}
		state := l.Attrs().OperState
		if state == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("port %s of the bridge stays %s", name, state)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// podSysctls are what the interface needs before it comes up, when it has IPv6 addresses: no duplicate address detection for the
// link-local one either, addresses that survive a down, and no routes but ours.
func podSysctls(conf *config) []link.Sysctl {
	if conf.EnableDAD {
		return []link.Sysctl{{Name: "enhanced_dad", Value: "1"}, {Name: "accept_dad", Value: "1"}, {Name: "keep_addr_on_down", Value: "1"}}
	}
	return []link.Sysctl{{Name: "accept_dad", Value: "0"}, {Name: "keep_addr_on_down", Value: "1"}, {Name: "accept_ra", Value: "0"}}
}

// addAddress gives the container's interface an address. IPv6 can be off in new namespaces (conf/default/disable_ipv6).
func addAddress(conf *config, pod *link.Space, name string, index int, p netip.Prefix) error {
	err := pod.AddAddress(index, p, conf.EnableDAD)
	if !errors.Is(err, syscall.EACCES) || p.Addr().Is4() {
		return err
	}
	for _, on := range []string{"lo", name} {
		if err := pod.SetSysctls("net/ipv6/conf/"+on, link.Sysctl{Name: "disable_ipv6", Value: "0"}); err != nil {
			return err
		}
	}
	return pod.AddAddress(index, p, conf.EnableDAD)
}

// configure brings the container's interface up with the addresses and routes of the result.
func (p *Plugin) configure(ctx context.Context, conf *config, c *plugin.Call, result *types100.Result) error {
	addrs, err := prefixes(result)
	if err != nil {
		return err
	}
	v6 := false
	for _, a := range addrs {
		v6 = v6 || a.Addr().Is6()
	}
	if v6 {
		if err := p.sysctls.Set(c.Pod, "net/ipv6/conf/"+c.IfName, podSysctls(conf)...); err != nil {
			return err
		}
	}
	l, err := c.Pod.Link(c.IfName)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("interface %s: gone while it was set up", c.IfName)
	}
	index := l.Attrs().Index
	for _, a := range addrs {
		if err := addAddress(conf, c.Pod, c.IfName, index, a); err != nil {
			return fmt.Errorf("interface %s: %w", c.IfName, err)
		}
	}
	if err := c.Pod.Up(index); err != nil {
		return fmt.Errorf("bring up %s: %w", c.IfName, err)
	}
	if v6 && conf.EnableDAD {
		if err := settle(ctx, c.Pod, index); err != nil {
			return fmt.Errorf("interface %s: %w", c.IfName, err)
		}
	}
	return addRoutes(c.Pod, index, result)
}

// settle waits for the end of duplicate address detection.
func settle(ctx context.Context, pod *link.Space, index int) error {
	ctx, cancel := context.WithTimeout(ctx, dadWait)
	defer cancel()
	for {
		addrs, err := pod.Addresses(index)
		if err != nil {
			return err
		}
		tentative := false
		for _, a := range addrs {
			tentative = tentative || (a.Tentative && a.Prefix.Addr().Is6())
		}
		if !tentative {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for duplicate address detection: %w", ctx.Err())
		case <-time.After(dadPoll):
		}
	}
}

func prefixes(result *types100.Result) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, ip := range result.IPs {
		p := link.Prefix(ip.Address)
		if !p.IsValid() {
			return nil, fmt.Errorf("address %s of the IPAM plugin is none", ip.Address.String())
		}
		out = append(out, p)
	}
	return out, nil
}

// addRoutes adds the result's, a route without a gateway by the first gateway of its family.
func addRoutes(pod *link.Space, index int, result *types100.Result) error {
	for _, r := range result.Routes {
		gw := r.GW
		for _, ip := range result.IPs {
			if gw == nil && ip.Gateway != nil && (ip.Gateway.To4() != nil) == (r.Dst.IP.To4() != nil) {
				gw = ip.Gateway
			}
		}
		route := &netlink.Route{
			LinkIndex: index, Dst: &r.Dst, Gw: gw, Priority: r.Priority, MTU: r.MTU, AdvMSS: r.AdvMSS,
		}
		if r.Table != nil {
			route.Table = *r.Table
		}
		if r.Scope != nil {
			route.Scope = netlink.Scope(*r.Scope)
		}
		if err := pod.Netlink().RouteAddEcmp(route); err != nil {
			return fmt.Errorf("add route to %s via %s: %w", r.Dst.String(), gw, err)
		}
	}
	return nil
}
