package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
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
	prefix string
	netns  int

	mu        sync.Mutex // one transaction at a time: the kernel allows no more either (nft commit mutex)
	conn      *nftables.Conn
	open      map[string]*table // by name
	reference referenceTables

	all bool // open has all that were in the kernel before us; who comes later, we made
}

// New keeps the tables with a prefix in a network namespace, whose descriptor stays the caller's and open as long as Tables is used.
func New(netns int, prefix string) *Tables {
	return &Tables{netns: netns, prefix: prefix, open: map[string]*table{}}
}

// Close gives up the connection to the kernel. The tables stay.
func (t *Tables) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return nil
	}
	err := t.conn.CloseLasting()
	t.conn = nil
	return err
}

func (t *Tables) name(network string) string {
	sum := sha256.Sum256([]byte(network))
	return t.prefix + "-" + hex.EncodeToString(sum[:4])
}

// connect keeps one connection for all transactions.
func (t *Tables) connect() error {
	if t.conn != nil {
		return nil
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(t.netns))
	if err != nil {
		return fmt.Errorf("open nf_tables socket: %w", err)
	}
	t.conn = conn
	return nil
}

// table returns the mirror of a network's table, read from the kernel at first.
func (t *Tables) table(name string) (*table, error) {
	if err := t.connect(); err != nil {
		return nil, err
	}
	if open := t.open[name]; open != nil {
		return open, nil
	}
	fresh := newTable(name)
	if err := fresh.read(t.conn); err != nil {
		return nil, err
	}
	t.open[name] = fresh
	return fresh, nil
}

// Masquerade hides what the owner's addresses send out of their subnets behind the host's address, but for what they send to direct: those
// know the way back. It may be called twice.
func (t *Tables) Masquerade(network, owner string, addrs, direct []netip.Prefix) error {
	var list []element
	for _, p := range addrs {
		list = append(list, masqElement(p, owner))
	}
	return t.add(network, list, nil, nil, direct)
}

// Publish leads ports of the host to the owner's addresses. It is a TakenError when another has one of them, in any network of
// the daemon. It may be called twice.
func (t *Tables) Publish(network, owner string, ports []Port, opts Options) error {
	var list []element
	for _, p := range ports {
		list = append(list, p.element(owner))
		if opts.SNAT {
			list = append(list, snatElements(netip.PrefixFrom(p.To.Addr(), p.Bits), owner)...)
		}
	}
	return t.add(network, list, ports, &opts, nil)
}

func (t *Tables) add(network string, list []element, ports []Port, opts *Options, direct []netip.Prefix) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tab, err := t.table(t.name(network))
	if err != nil {
		return err
	}
	for _, e := range list {
		if len(e.comment()) > maxComment {
			return fmt.Errorf("owner %q is longer than a comment of nf_tables", e.owner)
		}
	}
	if err := t.taken(ports, list); err != nil {
		return err
	}
	return t.retry(tab, func() error { return tab.add(t.conn, list, opts, direct) })
}

// taken holds the ports against those of all tables. A port on all addresses and one on a single address exclude each other, as
// they do for bind(2) and for the Kubernetes scheduler.
func (t *Tables) taken(ports []Port, list []element) error {
	if len(ports) == 0 {
		return nil
	}
	if err := t.readAll(); err != nil {
		return err
	}
	owner := list[0].owner
	for _, p := range ports {
		for _, tab := range t.open {
			if holder := tab.holder(p); holder != "" && holder != owner {
				return &TakenError{Port: p, Holder: holder}
			}
		}
	}
	return nil
}

// retry runs a transaction. When the kernel does not have what the mirror says (ENOENT: somebody flushed the rule set), it is
// run once more with the whole table in it.
func (t *Tables) retry(tab *table, transact func() error) error {
	err := transact()
	if err == nil {
		return nil
	}
	_ = t.conn.CloseLasting() // answers to the failed batch may still be queued
	t.conn = nil
	if err := t.connect(); err != nil {
		return err
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	tab.live = false
	return transact()
}

// ReleasePorts takes back what Publish did for the owner, or the reference plugin did. It may be called any number of times.
func (t *Tables) ReleasePorts(network, owner string) error {
	err := t.release(network, func(e element) bool { return e.owner == owner && !strings.HasPrefix(e.set, setMasq) })
	return errors.Join(err, t.releaseReferencePorts(owner))
}

// ReleaseMasquerade takes back what Masquerade did for the owner, or the reference plugins did. It may be called any number of times.
func (t *Tables) ReleaseMasquerade(network, owner string) error {
	err := t.release(network, func(e element) bool { return e.owner == owner && strings.HasPrefix(e.set, setMasq) })
	return errors.Join(err, t.releaseReferenceMasquerade(network, owner))
}

// KeepPorts releases the published ports of a network whose owners are not in valid.
func (t *Tables) KeepPorts(network string, valid map[string]bool) error {
	return t.release(network, func(e element) bool { return !valid[e.owner] && !strings.HasPrefix(e.set, setMasq) })
}

// KeepMasquerade releases the masqueraded addresses of a network whose owners are not in valid.
func (t *Tables) KeepMasquerade(network string, valid map[string]bool) error {
	return t.release(network, func(e element) bool { return !valid[e.owner] && strings.HasPrefix(e.set, setMasq) })
}

// Published says whether the kernel leads a port to the owner.
func (t *Tables) Published(network, owner string, p Port) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.connect(); err != nil {
		return false, err
	}
	now := newTable(t.name(network)) // the kernel's word, not the mirror's
	if err := now.read(t.conn); err != nil {
		return false, err
	}
	want := p.element(owner)
	return now.elements[want.set+want.key] == want, nil
}

func (t *Tables) release(network string, which func(element) bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tab, err := t.table(t.name(network))
	if err != nil {
		return err
	}
	return t.retry(tab, func() error { return tab.release(t.conn, which) })
}

// KeepAll releases what owners hold in any network that are not in valid, also in those whose name nobody knows any more, and then
// removes empty tables.
func (t *Tables) KeepAll(valid map[string]bool) error {
	t.mu.Lock()
	if err := t.readAll(); err != nil {
		t.mu.Unlock()
		return err
	}
	var errs []error
	for _, tab := range t.open {
		errs = append(errs, t.retry(tab, func() error { return tab.release(t.conn, func(e element) bool { return !valid[e.owner] }) }))
	}
	t.mu.Unlock()
	return errors.Join(append(errs, t.Prune())...)
}

// Prune removes the tables that hold nothing.
func (t *Tables) Prune() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.readAll(); err != nil {
		return err
	}
	var errs []error
	for name, tab := range t.open {
		if len(tab.elements) > 0 {
			continue
		}
		if tab.live {
			if err := t.connect(); err != nil {
				return err
			}
			t.conn.DelTable(tab.kernel)
			if err := t.retry(tab, t.conn.Flush); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("delete nf_tables table %s: %w", name, err))
				continue
			}
		}
		delete(t.open, name)
	}
	return errors.Join(errs...)
}

// readAll opens the daemon's tables that are in the kernel and not yet mirrored.
func (t *Tables) readAll() error {
	if t.all {
		return nil
	}
	if err := t.connect(); err != nil {
		return err
	}
	list, err := t.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list nf_tables tables: %w", err)
	}
	for _, k := range list {
		if rest, ok := strings.CutPrefix(k.Name, t.prefix+"-"); ok && !strings.Contains(rest, "-") {
			if _, err := t.table(k.Name); err != nil {
				return err
			}
		}
	}
	t.all = true
	return nil
}

// Names lists the tables that are in the kernel.
func (t *Tables) Names() ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.readAll(); err != nil {
		return nil, err
	}
	var names []string
	for name, tab := range t.open {
		if tab.live {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
