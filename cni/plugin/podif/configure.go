package podif

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
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
	Index   int           // 0 when nobody has asked for it yet
	Sysctls *link.Sysctls // writes the container's variables
	DAD     bool          // detect duplicates of its IPv6 addresses, and wait for that
	Routers bool          // it hears routers' advertisements: on a network that is not ours alone
	Alone   bool          // all of its subnets but itself are behind its gateways
}

// Configure brings the interface up with the addresses and routes of the result. A route without a gateway goes by the first gateway of
// its family. It waits neither for a carrier, which a pair whose other end is down does not have, nor for duplicate address detection.
func (i Interface) Configure(result *types100.Result) error {
	addrs, err := Addresses(result)
	if err != nil {
		return err
	}
	v6 := slices.ContainsFunc(addrs, func(a netip.Prefix) bool { return a.Addr().Is6() })
	if v6 {
		if err := i.prepare6(); err != nil {
			return err
		}
	}
	if i.Index == 0 {
		if i.Index, err = i.Pod.Index(i.Name); err != nil {
			return err
		}
	}
	var routes []link.Route
	if i.Alone {
		routes = pointToPoint(result)
	}
	if err := i.up(addrs, append(routes, Routes(result)...), v6); err != nil {
		return fmt.Errorf("interface %s: %w", i.Name, err)
	}
	return nil
}

// Expect brings the interface up without addresses, for an IPAM plugin that looks for it and may give some of IPv6; Configure follows, with
// them. What they need is there before the kernel gives the interface a link-local one and hears its neighbours. A kernel without IPv6 does
// neither.
func (i Interface) Expect() error {
	if err := i.prepare6(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return i.Configure(&types100.Result{})
}

func (i Interface) prepare6() error {
	return i.Sysctls.Set(i.Pod, "net/ipv6/conf/"+i.Name, i.sysctls()...)
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

// up gives the interface its addresses, brings it up and gives it its routes. IPv6 can be off in new namespaces (conf/default/disable_ipv6),
// which an address of the family ends.
func (i Interface) up(addrs []netip.Prefix, routes []link.Route, v6 bool) error {
	err := i.batch(addrs, routes).Run()
	if !v6 || !errors.Is(err, syscall.EACCES) {
		return err
	}
	for _, on := range []string{"lo", i.Name} {
		if err := i.Pod.SetSysctls("net/ipv6/conf/"+on, link.Sysctl{Name: "disable_ipv6", Value: "0"}); err != nil {
			return err
		}
	}
	for at := range routes {
		routes[at].Replace = true // those of IPv4 are there by now
	}
	return i.batch(addrs, routes).Run()
}

func (i Interface) batch(addrs []netip.Prefix, routes []link.Route) *link.Batch {
	batch := i.Pod.Batch()
	for _, a := range addrs {
		if i.Alone {
			batch.AddAddressAlone(i.Index, a)
		} else {
			batch.AddAddress(i.Index, a, i.DAD)
		}
	}
	batch.Up(i.Index)
	for _, r := range routes {
		batch.AddRoute(i.Index, r)
	}
	return batch
}

// Settle waits for the end of duplicate address detection, which needs a carrier.
func (i Interface) Settle(ctx context.Context) error {
	if i.Index == 0 {
		var err error
		if i.Index, err = i.Pod.Index(i.Name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dadWait)
	defer cancel()
	for {
		addrs, err := i.Pod.Addresses(i.Index)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(addrs, func(a link.Address) bool { return a.Tentative && a.Prefix.Addr().Is6() }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("interface %s: wait for duplicate address detection: %w", i.Name, ctx.Err())
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
