package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	chainHostPorts  = "hostports"
	chainHairpin    = "hairpin"
	chainMasquerade = "masquerade"

	// maxComment is what nft(8) takes for the comment of an element.
	maxComment = 128
)

// TakenError says that a port of the host leads elsewhere already.
type TakenError struct {
	Port   Port
	Holder string // owner of the port
}

func (e *TakenError) Error() string {
	at := ""
	if !e.Port.wildcard() {
		at = " of " + e.Port.HostIP.String()
	}
	return fmt.Sprintf("host port %d/%s%s is taken by %s", e.Port.Host, e.Port.Protocol, at, e.Holder)
}

// Options are what a network wants of its table.
type Options struct {
	SNAT bool // published ports work from the pod itself, from its subnet and from 127.0.0.1
	// Hairpin makes SNAT work among pods of one subnet on a host whose bridges do not pass netfilter.
	Hairpin bool
	// Conditions that a packet must meet to be led to a pod, by family.
	Conditions4, Conditions6 []expr.Any
}

// Tables are all tables of one daemon. It is safe for concurrent use.
type Tables struct {
	mu        sync.Mutex // one transaction at a time: the kernel allows no more either (nft commit mutex)
	kernel    *kernel
	mirrors   mirrors
	reference reference
	held      map[string]map[string]*change // by owner and network, for the owners that Hold was called for
}

// change is what an owner is to have in the table of one network.
type change struct {
	list   []element
	ports  []Port
	opts   *Options // when there are ports
	masq   bool
	direct []netip.Prefix // when something is masqueraded
}

// New keeps the tables with a prefix in a network namespace, whose descriptor stays the caller's and open as long as Tables is used.
func New(netns int, prefix string) *Tables {
	k := &kernel{netns: netns}
	return &Tables{
		kernel: k, mirrors: mirrors{prefix: prefix, kernel: k, open: map[string]*table{}}, reference: reference{kernel: k},
		held: map[string]map[string]*change{},
	}
}

// Close gives up the connection to the kernel. The tables stay.
func (t *Tables) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kernel.close()
}

// Hold keeps back what is masqueraded and published for an owner until Commit, which then makes one transaction of it. Until then nobody's
// packets see it.
func (t *Tables) Hold(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[owner] = map[string]*change{}
}

// Commit writes what Hold kept back. Without a Hold it does nothing.
func (t *Tables) Commit(owner string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.held[owner]
	delete(t.held, owner)
	for network, c := range held {
		if err := t.write(network, owner, c); err != nil {
			return err
		}
	}
	return nil
}

// Drop forgets what Hold kept back.
func (t *Tables) Drop(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, owner)
}

// Masquerade hides what the owner's addresses send out of their subnets behind the host's address, but for what they send to direct: those
// know the way back. It may be called twice.
func (t *Tables) Masquerade(network, owner string, addrs, direct []netip.Prefix) error {
	c := &change{masq: true, direct: direct}
	for _, p := range addrs {
		c.list = append(c.list, masqElement(p, owner))
	}
	return t.add(network, owner, c)
}

// Publish leads ports of the host to the owner's addresses. It is a TakenError when another has one of them, in any network of
// the daemon. It may be called twice.
func (t *Tables) Publish(network, owner string, ports []Port, opts Options) error {
	c := &change{ports: ports, opts: &opts}
	for _, p := range ports {
		c.list = append(c.list, p.element(owner))
		if opts.SNAT {
			c.list = append(c.list, snatElements(netip.PrefixFrom(p.To.Addr(), p.Bits), owner)...)
		}
	}
	return t.add(network, owner, c)
}

func (t *Tables) add(network, owner string, c *change) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range c.list {
		if len(e.comment()) > maxComment {
			return fmt.Errorf("owner %q is longer than a comment of nf_tables", e.owner)
		}
	}
	held, holds := t.held[owner]
	if !holds {
		return t.write(network, owner, c)
	}
	if err := t.mirrors.taken(owner, c.ports); err != nil {
		return err // who asks now can say what for
	}
	if old := held[network]; old != nil {
		c = old.with(c)
	}
	held[network] = c
	return nil
}

// with is both changes.
func (c *change) with(next *change) *change {
	out := *c
	out.list, out.ports = slices.Concat(c.list, next.list), slices.Concat(c.ports, next.ports)
	if next.opts != nil {
		out.opts = next.opts
	}
	if next.masq {
		out.masq, out.direct = true, next.direct
	}
	return &out
}

// write makes a change, mu held.
func (t *Tables) write(network, owner string, c *change) error {
	tab, err := t.mirrors.table(t.mirrors.name(network))
	if err != nil {
		return err
	}
	if err := t.mirrors.taken(owner, c.ports); err != nil {
		return err
	}
	return t.kernel.retry(tab, func() error { return tab.add(t.kernel.conn, c) })
}

// Release takes back all that the owner has in a network, and what the reference plugin published for it. It may be called any number of
// times.
func (t *Tables) Release(network, owner string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.release(network, ofOwner(owner)), t.reference.releasePorts(network, owner))
}

// ReleaseMasquerade takes back what Masquerade did for the owner, or the reference plugins did. It may be called any number of times.
func (t *Tables) ReleaseMasquerade(network, owner string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	masq := func(tab *table) map[string]element { return filter(tab.ofOwner(owner), element.masquerades) }
	return errors.Join(t.release(network, masq), t.reference.releaseMasquerade(network, owner))
}

// KeepPorts releases the published ports of a network whose owners are not in valid.
func (t *Tables) KeepPorts(network string, valid map[string]bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.release(network, func(tab *table) map[string]element {
		return filter(tab.elements, func(e element) bool { return !valid[e.owner] && !e.masquerades() })
	})
}

// KeepMasquerade releases the masqueraded addresses of a network whose owners are not in valid.
func (t *Tables) KeepMasquerade(network string, valid map[string]bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.release(network, func(tab *table) map[string]element {
		return filter(tab.elements, func(e element) bool { return !valid[e.owner] && e.masquerades() })
	})
}

func ofOwner(owner string) func(*table) map[string]element {
	return func(tab *table) map[string]element { return tab.ofOwner(owner) }
}

func filter(list map[string]element, want func(element) bool) map[string]element {
	out := map[string]element{}
	for k, e := range list {
		if want(e) {
			out[k] = e
		}
	}
	return out
}

// release takes some of a network's elements out, mu held.
func (t *Tables) release(network string, which func(*table) map[string]element) error {
	tab, err := t.mirrors.table(t.mirrors.name(network))
	if err != nil {
		return err
	}
	return t.kernel.retry(tab, func() error { return tab.release(t.kernel.conn, which(tab)) })
}

// Published says whether the kernel leads a port to the owner.
func (t *Tables) Published(network, owner string, p Port) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.kernel.connect(); err != nil {
		return false, err
	}
	now := newTable(t.mirrors.name(network)) // the kernel's word, not the mirror's
	if err := now.read(t.kernel.conn); err != nil {
		return false, err
	}
	want := p.element(owner)
	return now.elements[want.set+want.key] == want, nil
}

// KeepAll releases what owners hold in any network that are not in valid, also in those whose name nobody knows any more, and then
// removes empty tables.
func (t *Tables) KeepAll(valid map[string]bool) error {
	t.mu.Lock()
	if err := t.mirrors.readAll(); err != nil {
		t.mu.Unlock()
		return err
	}
	var errs []error
	for _, tab := range t.mirrors.open {
		errs = append(errs, t.kernel.retry(tab, func() error {
			return tab.release(t.kernel.conn, filter(tab.elements, func(e element) bool { return !valid[e.owner] }))
		}))
	}
	t.mu.Unlock()
	return errors.Join(append(errs, t.Prune())...)
}

// Prune removes the tables that hold nothing.
func (t *Tables) Prune() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.mirrors.readAll(); err != nil {
		return err
	}
	var errs []error
	for name, tab := range t.mirrors.open {
		if len(tab.elements) > 0 {
			continue
		}
		if tab.live {
			if err := t.kernel.connect(); err != nil {
				return err
			}
			t.kernel.conn.DelTable(tab.kernel)
			if err := t.kernel.retry(tab, t.kernel.conn.Flush); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("delete nf_tables table %s: %w", name, err))
				continue
			}
		}
		delete(t.mirrors.open, name)
	}
	return errors.Join(errs...)
}

// Names lists the tables that are in the kernel.
func (t *Tables) Names() ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.mirrors.readAll(); err != nil {
		return nil, err
	}
	var names []string
	for name, tab := range t.mirrors.open {
		if tab.live {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
