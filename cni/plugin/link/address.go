package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Address is one of an interface.
type Address struct {
	Prefix    netip.Prefix // address and length of its subnet
	Scope     netlink.Scope
	Tentative bool // duplicate address detection has not finished
}

// Addresses returns those of the interface with an index. The kernel filters, so the cost does not grow with the interfaces of
// the space.
func (s *Space) Addresses(index int) ([]Address, error) {
	req := s.request(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	msg := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	msg.Index = uint32(index)
	req.AddData(msg)
	answers, err := Whole(func() ([][]byte, error) { return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR) })
	if err != nil && !missing(err) {
		return nil, fmt.Errorf("list addresses of interface %d: %w", index, err)
	}
	var out []Address
	for _, answer := range answers {
		header := nl.DeserializeIfAddrmsg(answer)
		if header.Index != uint32(index) {
			continue
		}
		attrs, err := nl.ParseRouteAttr(answer[header.Len():])
		if err != nil {
			return nil, fmt.Errorf("read addresses of interface %d: %w", index, err)
		}
		a := Address{Scope: netlink.Scope(header.Scope), Tentative: header.Flags&unix.IFA_F_TENTATIVE != 0}
		for _, attr := range attrs {
			// IFA_LOCAL is the interface's own where it has a peer's too; IPv6 knows IFA_ADDRESS only.
			if attr.Attr.Type == unix.IFA_LOCAL || (attr.Attr.Type == unix.IFA_ADDRESS && !a.Prefix.IsValid()) {
				if ip, ok := netip.AddrFromSlice(attr.Value); ok {
					a.Prefix = netip.PrefixFrom(ip, int(header.Prefixlen))
				}
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// DeleteAddress takes an address from an interface. One that is not there is no error.
func (s *Space) DeleteAddress(index int, p netip.Prefix) error {
	err := s.handle.AddrDel(at(index), &netlink.Addr{IPNet: IPNet(p)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !missing(err) {
		return fmt.Errorf("delete address %s: %w", p, err)
	}
	return nil
}

// IPNet is p in the form of package net, address bits kept.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Prefix is n in the form of package netip, address bits kept, invalid when n is.
func Prefix(n net.IPNet) netip.Prefix {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, size := n.Mask.Size()
	if !ok || size == 0 {
		return netip.Prefix{}
	}
	addr = addr.Unmap()
	if addr.Is4() && size == 128 {
		ones -= 96
	}
	return netip.PrefixFrom(addr, ones)
}

func at(index int) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// DeleteRoute takes the route to dst by an interface away. One that is not there is no error.
func (s *Space) DeleteRoute(index int, dst netip.Prefix) error {
	err := s.handle.RouteDel(&netlink.Route{LinkIndex: index, Dst: IPNet(dst), Scope: netlink.SCOPE_NOWHERE})
	if err != nil && !errors.Is(err, unix.ESRCH) && !missing(err) {
		return fmt.Errorf("delete route to %s: %w", dst, err)
	}
	return nil
}

// Groups6 returns the IPv6 multicast groups that the interface with an index has joined, or with index 0 each interface, by its index.
func (s *Space) Groups6(index int) (map[int][]netip.Addr, error) {
	req := s.request(unix.RTM_GETMULTICAST, unix.NLM_F_DUMP)
	msg := nl.NewIfAddrmsg(unix.AF_INET6)
	msg.Index = uint32(index)
	req.AddData(msg)
	answers, err := Whole(func() ([][]byte, error) { return req.Execute(unix.NETLINK_ROUTE, 0) })
	if err != nil {
		return nil, fmt.Errorf("list multicast groups of interface %d: %w", index, err)
	}
	out := map[int][]netip.Addr{}
	for _, answer := range answers {
		header := nl.DeserializeIfAddrmsg(answer)
		of := int(header.Index)
		if index != 0 && of != index {
			continue
		}
		attrs, err := nl.ParseRouteAttr(answer[header.Len():])
		if err != nil {
			return nil, fmt.Errorf("read multicast groups of interface %d: %w", of, err)
		}
		for _, attr := range attrs {
			if ip, ok := netip.AddrFromSlice(attr.Value); ok && attr.Attr.Type == unix.IFA_MULTICAST {
				out[of] = append(out[of], ip)
			}
		}
	}
	return out, nil
}
