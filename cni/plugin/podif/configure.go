package podif

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

const (
	// dadWait is how long addresses may be tentative when the configuration wants duplicate address detection.
	dadWait = 5 * time.Second
	dadPoll = 20 * time.Millisecond
)

// Interface is one of a container.
type Interface struct {
	Pod     *link.Space
	Name    string
	Sysctls *link.Sysctls // writes the container's variables
	DAD     bool          // detect duplicates of its IPv6 addresses, and wait for that
	Routers bool          // it hears routers' advertisements: on a network that is not ours alone
	Alone   bool          // all of its subnets but itself are behind its gateways
}

// Configure brings the interface up with the addresses and routes of the result. A route without a gateway goes by the first gateway of
// its family. It returns the interface's index.
func Configure(ctx context.Context, i Interface, result *types100.Result) (int, error) {
	addrs, err := Addresses(result)
	if err != nil {
		return 0, err
	}
	v6 := false
	for _, a := range addrs {
		v6 = v6 || a.Addr().Is6()
	}
	if v6 {
		if err := i.Sysctls.Set(i.Pod, "net/ipv6/conf/"+i.Name, i.sysctls()...); err != nil {
			return 0, err
		}
	}
	index, err := i.Pod.Index(i.Name)
	if err != nil {
		return 0, err
	}
	if err := i.up(index, addrs, v6); err != nil {
		return 0, fmt.Errorf("interface %s: %w", i.Name, err)
	}
	if v6 && i.DAD {
		if err := settle(ctx, i.Pod, index); err != nil {
			return 0, fmt.Errorf("interface %s: %w", i.Name, err)
		}
	}
	batch := i.Pod.Batch()
	if i.Alone {
		for _, r := range pointToPoint(result) {
			batch.AddRoute(index, r)
		}
	}
	for _, r := range Routes(result) {
		batch.AddRoute(index, r)
	}
	if err := batch.Run(); err != nil {
		return 0, fmt.Errorf("interface %s: %w", i.Name, err)
	}
	return index, nil
}

// sysctls are what the interface needs before it comes up, when it has IPv6 addresses: no duplicate address detection for the
// link-local one either, addresses that survive a down, and no routes but ours.
func (i Interface) sysctls() []link.Sysctl {
	if i.DAD {
		return []link.Sysctl{{Name: "enhanced_dad", Value: "1"}, {Name: "accept_dad", Value: "1"}, {Name: "keep_addr_on_down", Value: "1"}}
	}
	out := []link.Sysctl{{Name: "accept_dad", Value: "0"}, {Name: "keep_addr_on_down", Value: "1"}}
	if !i.Routers {
		out = append(out, link.Sysctl{Name: "accept_ra", Value: "0"})
	}
	return out
}

// up gives the interface its addresses and brings it up. IPv6 can be off in new namespaces (conf/default/disable_ipv6), which an
// address of the family ends.
func (i Interface) up(index int, addrs []netip.Prefix, v6 bool) error {
	batch := i.Pod.Batch()
	for _, a := range addrs {
		if i.Alone {
			batch.AddAddressAlone(index, a)
		} else {
			batch.AddAddress(index, a, i.DAD)
		}
	}
	batch.Up(index)
	err := batch.Run()
	if !v6 || !errors.Is(err, syscall.EACCES) {
		return err
	}
	for _, on := range []string{"lo", i.Name} {
		if err := i.Pod.SetSysctls("net/ipv6/conf/"+on, link.Sysctl{Name: "disable_ipv6", Value: "0"}); err != nil {
			return err
		}
	}
	return batch.Run()
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

// Addresses are those of the result.
func Addresses(result *types100.Result) ([]netip.Prefix, error) {
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

// Routes are those of the result, each with the gateway that it goes by. A destination that is none is left out.
func Routes(result *types100.Result) []link.Route {
	var out []link.Route
	for _, r := range result.Routes {
		dst := link.Prefix(r.Dst)
		if !dst.IsValid() {
			continue
		}
		route := link.Route{Dst: dst.Masked(), Gw: addrOf(r.GW), Priority: r.Priority, MTU: r.MTU, AdvMSS: r.AdvMSS}
		for _, ip := range result.IPs {
			if gw := addrOf(ip.Gateway); !route.Gw.IsValid() && gw.IsValid() && gw.Is4() == dst.Addr().Is4() {
				route.Gw = gw
			}
		}
		if r.Table != nil {
			route.Table = *r.Table
		}
		if r.Scope != nil {
			route.Scope = *r.Scope
		}
		out = append(out, route)
	}
	return out
}

// pointToPoint are the routes to an interface's gateways, and to its subnets by them.
func pointToPoint(result *types100.Result) []link.Route {
	var out []link.Route
	for _, ip := range result.IPs {
		p, gw := link.Prefix(ip.Address), addrOf(ip.Gateway)
		if !gw.IsValid() {
			continue
		}
		out = append(out,
			link.Route{Dst: netip.PrefixFrom(gw, gw.BitLen()), Src: p.Addr(), Scope: scopeLink},
			link.Route{Dst: p.Masked(), Gw: gw, Src: p.Addr()})
	}
	return out
}

// scopeLink is RT_SCOPE_LINK of rtnetlink(7).
const scopeLink = 253

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
