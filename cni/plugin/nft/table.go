package nft

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// table mirrors one table of the kernel. Its caller holds Tables.mu.
type table struct {
	kernel   *nftables.Table
	sets     map[string]*nftables.Set
	elements map[string]element              // by set and key
	owners   map[string]map[string]bool      // by owner: what elements it has, by set and key
	subnets  map[string]map[netip.Prefix]int // by kind of set: how many elements are of which subnet
	single   map[string]map[string]bool      // by family and port: the elements that publish it on a single address
	live     bool                            // the kernel has it
	opts     Options
	direct   []netip.Prefix // where nothing is masqueraded

	portRules, masqRules string // what the kernel's rules were made from, "" when that is not known
}

func newTable(name string) *table {
	k := &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
	subnets := map[string]map[netip.Prefix]int{setSNAT: {}, setMasq: {}}
	return &table{kernel: k, sets: sets(k), elements: map[string]element{}, owners: map[string]map[string]bool{}, subnets: subnets, single: map[string]map[string]bool{}}
}

func (t *table) put(e element) {
	t.drop(e.set + e.key)
	t.elements[e.set+e.key] = e
	if t.owners[e.owner] == nil {
		t.owners[e.owner] = map[string]bool{}
	}
	t.owners[e.owner][e.set+e.key] = true
	if p := e.subnet(); p.IsValid() {
		t.subnets[e.set[:len(e.set)-1]][p]++
	}
	if at := e.single(); at != "" {
		if t.single[at] == nil {
			t.single[at] = map[string]bool{}
		}
		t.single[at][e.set+e.key] = true
	}
}

func (t *table) drop(key string) {
	e, ok := t.elements[key]
	if !ok {
		return
	}
	delete(t.elements, key)
	if delete(t.owners[e.owner], key); len(t.owners[e.owner]) == 0 {
		delete(t.owners, e.owner)
	}
	if p := e.subnet(); p.IsValid() {
		kind := t.subnets[e.set[:len(e.set)-1]]
		if kind[p]--; kind[p] == 0 {
			delete(kind, p)
		}
	}
	if at := e.single(); at != "" {
		if delete(t.single[at], key); len(t.single[at]) == 0 {
			delete(t.single, at)
		}
	}
}

// ofOwner are the elements of an owner. What that costs does not grow with those of others.
func (t *table) ofOwner(owner string) map[string]element {
	out := map[string]element{}
	for k := range t.owners[owner] {
		out[k] = t.elements[k]
	}
	return out
}

// read fills the mirror from the kernel.
func (t *table) read(conn *nftables.Conn) error {
	_, err := conn.ListTableOfFamily(t.kernel.Name, t.kernel.Family)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up nf_tables table %s: %w", t.kernel.Name, err)
	}
	for name, set := range t.sets {
		list, err := conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("read nf_tables set %s of %s: %w", name, t.kernel.Name, err)
		}
		for _, k := range list {
			t.put(fromKernel(name, k))
		}
	}
	t.live = true
	return nil
}

// holder is the owner of the port, or of one that excludes it.
func (t *table) holder(p Port) string {
	key, fam := portKey(p.Protocol, p.Host), family(p.To.Addr())
	if e, ok := t.elements[setPorts+fam+key]; ok {
		return e.owner
	}
	if !p.wildcard() {
		return t.elements[setHostPorts+fam+string(p.HostIP.AsSlice())+key].owner
	}
	for k := range t.single[fam+key] {
		return t.elements[k].owner
	}
	return ""
}

// add makes a change in the kernel and the mirror in one transaction, with whatever of the table is missing.
func (t *table) add(conn *nftables.Conn, c *change) error {
	if c.opts != nil {
		t.opts = *c.opts
	}
	if c.masq {
		t.direct = c.direct
	}
	fresh := map[string]element{}
	for _, e := range c.list {
		if old, ok := t.elements[e.set+e.key]; !ok || old != e {
			fresh[e.set+e.key] = e
		}
	}
	all, whole := fresh, !t.live
	if whole {
		t.create(conn)
		all = maps.Clone(t.elements)
		maps.Copy(all, fresh)
	} else if err := t.replace(conn, fresh); err != nil {
		return err
	}
	portRules, masqRules := t.portRules, t.masqRules
	if c.opts != nil || whole {
		portRules = t.writePortRules(conn, fresh, whole)
	}
	if c.masq || whole {
		masqRules = t.writeMasqRules(conn, fresh, whole)
	}
	if err := t.elementsBySet(all, conn.SetAddElements); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("change nf_tables table %s: %w", t.kernel.Name, err)
	}
	t.live, t.portRules, t.masqRules = true, portRules, masqRules
	for _, e := range fresh {
		t.put(e)
	}
	return nil
}

// replace takes out first what an element is to stand in place of, such as the lease of an address that was given out again
// before its former holder was released.
func (t *table) replace(conn *nftables.Conn, fresh map[string]element) error {
	old := map[string]element{}
	for k := range fresh {
		if e, ok := t.elements[k]; ok {
			old[k] = e
		}
	}
	return t.elementsBySet(old, conn.SetDeleteElements)
}

func (t *table) release(conn *nftables.Conn, gone map[string]element) error {
	if len(gone) == 0 {
		return nil
	}
	if t.live {
		if err := t.elementsBySet(gone, conn.SetDeleteElements); err != nil {
			return err
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("change nf_tables table %s: %w", t.kernel.Name, err)
		}
	}
	for k := range gone {
		t.drop(k)
	}
	return nil
}

// elementsBySet calls do once a set.
func (t *table) elementsBySet(list map[string]element, do func(*nftables.Set, []nftables.SetElement) error) error {
	bySet := map[string][]nftables.SetElement{}
	for _, e := range list {
		bySet[e.set] = append(bySet[e.set], e.kernel())
	}
	for name, elems := range bySet {
		for part := range slices.Chunk(elems, 256) { // an attribute holds at most 64 KiB
			if err := do(t.sets[name], part); err != nil {
				return fmt.Errorf("write elements of nf_tables set %s: %w", name, err)
			}
		}
	}
	return nil
}

// subnetsOf are those of a kind's elements, in order.
func (t *table) subnetsOf(kind string, fresh map[string]element) []netip.Prefix {
	seen := maps.Clone(t.subnets[kind])
	for _, e := range fresh {
		if p := e.subnet(); p.IsValid() && strings.HasPrefix(e.set, kind) {
			seen[p]++
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
}

// create adds the table with its sets and chains. Adding what is there already is no error to the kernel.
func (t *table) create(conn *nftables.Conn) {
	conn.AddTable(t.kernel)
	for _, s := range t.sets {
		if err := conn.AddSet(s, nil); err != nil {
			panic(err) // only for anonymous sets and lengths that are ours
		}
	}
	for _, name := range []string{chainHostPorts, chainHairpin, chainMasquerade} {
		conn.AddChain(&nftables.Chain{Name: name, Table: t.kernel})
	}
	t.base(conn, "postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, [][]expr.Any{
		{&expr.Verdict{Kind: expr.VerdictJump, Chain: chainHairpin}},
		{&expr.Verdict{Kind: expr.VerdictJump, Chain: chainMasquerade}},
	})
}

// base writes a chain that the kernel calls; the transaction makes that one change to a packet.
func (t *table) base(conn *nftables.Conn, name string, hook *nftables.ChainHook, prio *nftables.ChainPriority, rules [][]expr.Any) {
	conn.AddChain(&nftables.Chain{Name: name, Table: t.kernel, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: prio})
	t.fill(conn, name, rules)
}

// fill replaces the rules of a chain.
func (t *table) fill(conn *nftables.Conn, name string, rules [][]expr.Any) {
	c := &nftables.Chain{Name: name, Table: t.kernel}
	conn.FlushChain(c)
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: t.kernel, Chain: c, Exprs: r})
	}
}

// writePortRules writes the rules of published ports when they are to change, and returns what they were made from.
func (t *table) writePortRules(conn *nftables.Conn, fresh map[string]element, whole bool) string {
	var subnets []netip.Prefix
	if t.opts.Hairpin {
		subnets = t.subnetsOf(setSNAT, fresh)
	}
	sum := fmt.Sprintf("ports %v%s", subnets, fingerprint(t.opts))
	if sum == t.portRules && !whole {
		return sum
	}
	var dnat, snat, local [][]expr.Any
	for _, f := range families() {
		conditions := t.opts.Conditions4
		if f.suffix == "6" {
			conditions = t.opts.Conditions6
		}
		dnat = append(dnat, f.dnatRules(t.sets)...)
		snat = append(snat, f.snatRules(t.sets, subnets)...)
		local = append(local, toLocal(append(f.is(), conditions...)))
	}
	t.fill(conn, chainHostPorts, dnat)
	t.fill(conn, chainHairpin, snat)
	t.base(conn, "prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, local)
	t.base(conn, "output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest, local)
	return sum
}

// writeMasqRules is the same for masqueraded addresses.
func (t *table) writeMasqRules(conn *nftables.Conn, fresh map[string]element, whole bool) string {
	subnets := t.subnetsOf(setMasq, fresh)
	sum := fmt.Sprintf("masq %v %v", subnets, t.direct)
	if sum == t.masqRules && !whole {
		return sum
	}
	var masq [][]expr.Any
	for _, f := range families() {
		masq = append(masq, f.masqRules(t.sets, subnets, t.direct)...)
	}
	t.fill(conn, chainMasquerade, masq)
	return sum
}

// fingerprint tells conditions apart.
func fingerprint(o Options) string {
	var b strings.Builder
	for _, e := range slices.Concat(o.Conditions4, []expr.Any{nil}, o.Conditions6) {
		fmt.Fprintf(&b, " %+v", e)
	}
	return b.String()
}
