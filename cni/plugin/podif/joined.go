package podif

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

const (
	joinWait = time.Second
	joinPoll = 50 * time.Microsecond
	joinMost = 250 * time.Microsecond // between two looks: the work queue takes a millisecond at times
)

// Reachable returns when others can ask for the IPv6 addresses of a pod's interface: when the kernel has joined their solicited-node groups
// (RFC 4291, section 2.7.1). It does that in a work queue of its own, also without duplicate address detection
// (addrconf_dad_work), and a question that comes before it is lost: who asks tries again after a second. The wait is mostly
// one look; after a second it is given up, as a lost packet is no reason to have no pod.
func Reachable(ctx context.Context, pod *link.Space, name string, addrs []netip.Addr) {
	want := groups(addrs)
	if len(want) == 0 || joined(pod, 0, want) { // a pod has few interfaces: cheaper than to ask which is which
		return
	}
	if index, err := pod.Index(name); err == nil {
		ReachableAt(ctx, pod, index, addrs)
	}
}

// ReachableAt is Reachable for the interface with an index, also in a space with many.
func ReachableAt(ctx context.Context, space *link.Space, index int, addrs []netip.Addr) {
	want := groups(addrs)
	if len(want) == 0 || joined(space, index, want) {
		return
	}
	// An interface that asks for no MAC addresses answers to all, and joins no group (addrconf_join_solict).
	if l, err := space.LinkAt(index); err != nil || l == nil || l.Attrs().RawFlags&(unix.IFF_NOARP|unix.IFF_LOOPBACK) != 0 {
		return
	}
	for _, a := range addrs { // what another interface has, this one joins no group for
		if a.Is6() && !has(space, index, a) {
			delete(want, solicited(a))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	for wait := joinPoll; !joined(space, index, want); wait = min(2*wait, joinMost) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// groups are those of the IPv6 addresses.
func groups(addrs []netip.Addr) map[netip.Addr]bool {
	want := map[netip.Addr]bool{}
	for _, a := range addrs {
		if a.Is6() {
			want[solicited(a)] = true
		}
	}
	return want
}

// joined says whether the interface with an index, or with 0 any one but lo, is in all groups, or nobody can tell.
func joined(pod *link.Space, index int, want map[netip.Addr]bool) bool {
	have, err := pod.Groups6(index)
	if err != nil {
		return true
	}
	for of, list := range have {
		left := len(want)
		for _, g := range list {
			if want[g] {
				left--
			}
		}
		if left <= 0 && of != loopback {
			return true
		}
	}
	return len(want) == 0
}

// loopback is lo's index in every namespace (LOOPBACK_IFINDEX of linux/net_namespace.h).
const loopback = 1

func has(pod *link.Space, index int, a netip.Addr) bool {
	have, err := pod.Addresses(index)
	return err == nil && slices.ContainsFunc(have, func(h link.Address) bool { return h.Prefix.Addr() == a })
}

// solicited is the group of an address: ff02::1:ff00:0/104 with its last 24 bits.
func solicited(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}
