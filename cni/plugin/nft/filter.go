package nft

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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
	mu      sync.Mutex
	kernel  *kernel
	table   *filterTable
	host    *hostFilter
	pods    map[netip.Addr]string // who has an address, as the kernel has it
	bridges map[string]bool       // those that are kept apart; true when their own ports are, too
	read    bool
	live    bool // the kernel has the table
}

// NewFilter keeps the table with a prefix in a network namespace, whose descriptor stays the caller's and open as long as Filter is used.
func NewFilter(netns int, prefix string) *Filter {
	k := &kernel{netns: netns}
	return &Filter{
		kernel: k, table: newFilterTable(prefix + "-pod-filter"), host: &hostFilter{kernel: k, known: map[string]time.Time{}},
		pods: map[netip.Addr]string{}, bridges: map[string]bool{},
	}
}

// Close gives up the connection to the kernel. The table stays.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kernel.close()
}

// Admit lets packets from an owner's addresses pass the host's filter, and answers to them, unless the administrator's chain says otherwise.
// It may be called twice.
func (f *Filter) Admit(owner, admin string, addrs []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(owner) > maxComment {
		return fmt.Errorf("owner %q is longer than a comment of nf_tables", owner)
	}
	if err := f.open(); err != nil {
		return err
	}
	for _, v4 := range []bool{true, false} {
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is4() == v4 }) {
			if err := f.host.ensure(v4, admin); err != nil {
				return err
			}
		}
	}
	next := maps.Clone(f.pods)
	for _, a := range addrs {
		next[a] = owner
	}
	return f.write(next, f.bridges)
}

// Isolate drops what goes from one bridge to another, among those that it was called for, and with closed also what the bridge's own ports
// send to each other, on a host whose bridges pass netfilter.
func (f *Filter) Isolate(bridge string, closed bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.open(); err != nil {
		return err
	}
	if was, ok := f.bridges[bridge]; ok && was == closed && f.live {
		return nil
	}
	next := maps.Clone(f.bridges)
	next[bridge] = closed
	return f.write(f.pods, next)
}

// Admitted says whether the kernel lets an address of the owner's pass.
func (f *Filter) Admitted(owner string, addr netip.Addr) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.kernel.connect(); err != nil {
		return false, err
	}
	f.read = false // the kernel's word, not the mirror's
	if err := f.open(); err != nil {
		return false, err
	}
	return f.pods[addr] == owner, nil
}

// Release takes back what Admit did for the owner, and what the reference plugin did for addresses of its. It may be called any number of
// times.
func (f *Filter) Release(owner string, addrs []netip.Addr) error {
	return errors.Join(f.keep(func(o string) bool { return o != owner }), f.releaseReference(addrs))
}

func (f *Filter) releaseReference(addrs []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.kernel.connect(); err != nil {
		return err
	}
	return f.host.release(addrs)
}

// Keep releases owners that are not in valid, and removes the table when nobody is left.
func (f *Filter) Keep(valid map[string]bool) error {
	return errors.Join(f.keep(func(o string) bool { return valid[o] }), f.Prune())
}

func (f *Filter) keep(want func(owner string) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.open(); err != nil {
		return err
	}
	next := maps.Clone(f.pods)
	maps.DeleteFunc(next, func(_ netip.Addr, owner string) bool { return !want(owner) })
	if len(next) == len(f.pods) {
		return nil
	}
	return f.write(next, f.bridges)
}

// Prune removes the table when no pod is in it, and with it what keeps bridges apart that nobody is on, and the host's rule for marked
// packets.
func (f *Filter) Prune() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.open(); err != nil {
		return err
	}
	if !f.live || len(f.pods) > 0 {
		return nil
	}
	f.kernel.conn.DelTable(f.table.kernel)
	if err := f.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete nf_tables table %s: %w", f.table.kernel.Name, err)
	}
	f.live, f.bridges = false, map[string]bool{}
	return f.host.prune()
}

// open reads the table once, mu held.
func (f *Filter) open() error {
	if err := f.kernel.connect(); err != nil {
		return err
	}
	if f.read {
		return nil
	}
	pods, bridges, err := f.table.read(f.kernel.conn)
	if err != nil {
		return err
	}
	f.live = pods != nil
	f.pods, f.bridges = map[netip.Addr]string{}, map[string]bool{}
	maps.Copy(f.pods, pods)
	maps.Copy(f.bridges, bridges)
	f.read = true
	return nil
}

// write makes the kernel and the mirror what is wanted, in one transaction; mu is held. When the kernel's table is not what the mirror
// says (ENOENT: somebody flushed the rule set), it is written whole.
func (f *Filter) write(pods map[netip.Addr]string, bridges map[string]bool) error {
	err := f.transact(pods, bridges)
	if errors.Is(err, unix.ENOENT) && f.live {
		f.live, f.pods, f.bridges = false, map[netip.Addr]string{}, map[string]bool{}
		err = f.transact(pods, bridges)
	}
	if err != nil {
		return fmt.Errorf("change nf_tables table %s: %w", f.table.kernel.Name, err)
	}
	f.live, f.pods, f.bridges = true, pods, bridges
	return nil
}

func (f *Filter) transact(pods map[netip.Addr]string, bridges map[string]bool) error {
	if err := f.kernel.connect(); err != nil {
		return err
	}
	conn := f.kernel.conn
	if !f.live {
		f.table.create(conn)
	}
	if err := f.table.change(conn, f.pods, pods, f.bridges, bridges); err != nil {
		return err
	}
	return f.flush()
}

func (f *Filter) flush() error {
	err := f.kernel.conn.Flush()
	if err != nil {
		_ = f.kernel.close() // answers to the failed batch may still be queued
		return errors.Join(err, f.kernel.connect())
	}
	return nil
}
