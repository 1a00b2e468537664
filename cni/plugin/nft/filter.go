package nft

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Filter lets pods through the host's filter of forwarded packets, and keeps bridges apart. It is safe for concurrent use.
//
// Another table's chain can only drop what the host's drops; to accept it takes a rule in the chain that would drop, and rules of
// iptables' tables must be of a kind that iptables can read, which sets are not. So the pods are elements of sets of a table of the
// daemon's, which marks their packets shortly before the host's filter; and that has one rule, for whatever has the mark:
//
//	PREFIX-pod-filter   before (forward, filter-1)  drop between bridges that are kept apart
//	                                                mark what is from a pod, and what answers one
//	ip|ip6 filter       FORWARD → CNI-FORWARD       jump to the administrator's chain, accept what is marked
//	PREFIX-pod-filter   behind (forward, filter+1)  take the mark away
//
// The chains of table filter, and their names, are those of the reference firewall plugin.
type Filter struct {
	mu    sync.Mutex
	table *register
	host  *hostFilter
}

// NewFilter keeps the table with a prefix in a network namespace, whose descriptor stays the caller's and open as long as Filter is used.
func NewFilter(netns int, prefix string) *Filter {
	k := &kernel{netns: netns}
	return &Filter{table: newFilterTable(k, prefix+"-pod-filter"), host: &hostFilter{kernel: k, known: map[string]time.Time{}}}
}

// Close gives up the connection to the kernel. The table stays.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table.kernel.close()
}

// Admit lets packets from an owner's addresses pass the host's filter, and answers to them, unless the administrator's chain says otherwise.
// It may be called twice.
func (f *Filter) Admit(owner, admin string, addrs []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.table.open(); err != nil {
		return err
	}
	for _, v4 := range []bool{true, false} {
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is4() == v4 }) {
			if err := f.host.ensure(v4, admin); err != nil {
				return err
			}
		}
	}
	add := map[entry]string{}
	for _, a := range addrs {
		add[podEntry(a)] = owner
	}
	return f.table.change(add, nil)
}

func podEntry(a netip.Addr) entry { return entry{"pods" + family(a), string(a.AsSlice())} }

// Isolate drops what goes from one bridge to another, among those that it was called for, and with closed also what the bridge's own ports
// send to each other, on a host whose bridges pass netfilter.
func (f *Filter) Isolate(bridge string, closed bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := interfaceKey(bridge)
	own := entry{setClosed, name + name}
	add := map[entry]string{{setBridges, name}: "", {setSame, name + name}: ""}
	if closed {
		add[own] = ""
	}
	return f.table.change(add, func(e entry, _ string) bool { return closed || e != own })
}

// Admitted says whether the kernel lets an address of the owner's pass.
func (f *Filter) Admitted(owner string, addr netip.Addr) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table.holds(podEntry(addr), owner)
}

// Release takes back what Admit did for the owner, and what the reference plugin did for addresses of its. It may be called any number of
// times.
func (f *Filter) Release(owner string, addrs []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.table.change(nil, notOf(owner)); err != nil {
		return err
	}
	return f.host.release(addrs)
}

// Keep releases owners that are not in valid, and removes the table when nobody is left.
func (f *Filter) Keep(valid map[string]bool) error {
	f.mu.Lock()
	err := f.table.change(nil, within(valid))
	f.mu.Unlock()
	return errors.Join(err, f.Prune())
}

// Prune removes the table when no pod is in it, and with it what keeps bridges apart that nobody is on, and the host's rule for marked
// packets.
func (f *Filter) Prune() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	gone, err := f.table.prune()
	if err != nil || !gone {
		return err
	}
	return f.host.prune()
}
