package nft

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The names that the reference firewall plugin gives, and those that iptables has.
const (
	filterName       = "filter"
	forwardChain     = "FORWARD"
	cniForward       = "CNI-FORWARD"
	hostFilterBelief = 10 * time.Second
)

// hostFilter is table filter of both families, as iptables (its nf_tables variant) has it. Its caller holds Filter.mu.
type hostFilter struct {
	kernel *kernel
	known  map[string]time.Time // until when it is believed that what ensure makes is there
}

func (h *hostFilter) table(v4 bool) *nftables.Table {
	t := &nftables.Table{Name: filterName, Family: nftables.TableFamilyIPv6}
	if v4 {
		t.Family = nftables.TableFamilyIPv4
	}
	return t
}

// ensure has forwarded packets go through CNI-FORWARD first, which asks the administrator's chain and accepts what is marked.
func (h *hostFilter) ensure(v4 bool, admin string) error {
	key := fmt.Sprint(v4, admin)
	if time.Now().Before(h.known[key]) {
		return nil
	}
	conn, table := h.kernel.conn, h.table(v4)
	conn.AddTable(table)
	conn.AddChain(&nftables.Chain{
		Name: forwardChain, Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	for _, name := range []string{cniForward, admin} {
		conn.AddChain(&nftables.Chain{Name: name, Table: table})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make chain %s of table %s: %w", cniForward, filterName, err)
	}
	jumps := func(to string) func([]expr.Any) bool {
		return func(exprs []expr.Any) bool { return jumpsTo(exprs, to) }
	}
	jump := func(to string) []expr.Any {
		return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictJump, Chain: to}}
	}
	for _, r := range []struct {
		chain string
		there func([]expr.Any) bool
		rule  []expr.Any
		first bool
	}{
		{forwardChain, jumps(cniForward), jump(cniForward), true},
		{cniForward, acceptsMarked, marked(), false},
		{cniForward, jumps(admin), jump(admin), true},
	} {
		if err := h.ensureRule(table, r.chain, r.there, r.rule, r.first); err != nil {
			return err
		}
	}
	h.known[key] = time.Now().Add(hostFilterBelief)
	return nil
}

func (h *hostFilter) ensureRule(table *nftables.Table, chain string, there func([]expr.Any) bool, exprs []expr.Any, first bool) error {
	conn, c := h.kernel.conn, &nftables.Chain{Name: chain, Table: table}
	rules, err := conn.GetRules(table, c)
	if err != nil {
		return fmt.Errorf("list rules of %s: %w", chain, err)
	}
	if slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return there(r.Exprs) }) {
		return nil
	}
	add := conn.AddRule
	if first {
		add = conn.InsertRule
	}
	add(&nftables.Rule{Table: table, Chain: c, Exprs: exprs})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("add rule to %s: %w", chain, err)
	}
	return nil
}

// marked accepts what has podMark. iptables shows it as -m mark --mark 0x1000/0x1000 -j ACCEPT.
func marked() []expr.Any {
	bit := binaryutil.NativeEndian.PutUint32(podMark)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: bit, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: bit},
		&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept},
	}
}

func acceptsMarked(exprs []expr.Any) bool {
	mark, bit := false, false
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Meta:
			mark = mark || e.Key == expr.MetaKeyMARK && !e.SourceRegister
		case *expr.Bitwise:
			bit = bit || bytes.Equal(e.Mask, binaryutil.NativeEndian.PutUint32(podMark))
		}
	}
	return mark && bit
}

// prune takes the rule for marked packets away. The chains stay: the administrator has rules in his.
func (h *hostFilter) prune() error {
	clear(h.known)
	return h.delete(acceptsMarked)
}

// release deletes the rules that the reference plugin made for addresses: one from each, one to it.
func (h *hostFilter) release(addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	return h.delete(func(exprs []expr.Any) bool {
		return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return accepts(exprs, a) })
	})
}

// accepts says whether a rule accepts what is from or to a single address, as -s or -d of iptables.
func accepts(exprs []expr.Any, a netip.Addr) bool {
	addr, accept := false, false
	for i, e := range exprs {
		switch e := e.(type) {
		case *expr.Verdict:
			accept = e.Kind == expr.VerdictAccept
		case *expr.Cmp:
			if i == 0 || e.Op != expr.CmpOpEq {
				continue
			}
			from, ok := exprs[i-1].(*expr.Payload)
			addr = addr || ok && from.Base == expr.PayloadBaseNetworkHeader && bytes.Equal(e.Data, a.AsSlice())
		}
	}
	return addr && accept
}

// delete deletes rules of CNI-FORWARD. That there is no such chain is no error.
func (h *hostFilter) delete(which func([]expr.Any) bool) error {
	conn, found := h.kernel.conn, false
	for _, v4 := range []bool{true, false} {
		table := h.table(v4)
		chain := &nftables.Chain{Name: cniForward, Table: table}
		rules, err := conn.GetRules(table, chain)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list rules of %s: %w", cniForward, err)
		}
		for _, r := range rules {
			if !which(r.Exprs) {
				continue
			}
			r.Table, r.Chain = table, chain
			if err := conn.DelRule(r); err != nil {
				return fmt.Errorf("delete rule of %s: %w", cniForward, err)
			}
			found = true
		}
	}
	if !found {
		return nil
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) { // somebody else's plugin was quicker
		return fmt.Errorf("delete rules of %s: %w", cniForward, err)
	}
	return nil
}
