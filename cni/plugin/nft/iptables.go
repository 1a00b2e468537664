package nft

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What the reference plugins' backend iptables makes is, with iptables' nf_tables variant, a chain of the container's own in table nat of each
// family, and a rule that jumps there. The older iptables' tables are not nf_tables', and what is in them is not seen here.
const (
	natTable = "nat"
	// chainLength is that of a chain's name: utils.FormatChainName of containernetworking/plugins.
	chainLength = 28
)

// chainOf is the name of a container's chain.
func chainOf(prefix, network, container string) string {
	return (prefix + fmt.Sprintf("%x", sha512.Sum512([]byte(network+container))))[:chainLength]
}

func ofIPTables(t *nftables.Table) bool {
	return t.Family == nftables.TableFamilyIPv4 || t.Family == nftables.TableFamilyIPv6
}

// releaseChain deletes a container's chain, and the rules of another that jump there. That there is none is no error.
func (r *reference) releaseChain(from, name string) error {
	if err := r.find(); err != nil {
		return err
	}
	for _, table := range r.nat {
		if err := r.releaseChainOf(table, from, name); err != nil && !errors.Is(err, unix.ENOENT) { // somebody else's plugin was quicker
			return fmt.Errorf("delete chain %s of table %s: %w", name, table.Name, err)
		}
	}
	return nil
}

func (r *reference) releaseChainOf(table *nftables.Table, from, name string) error {
	conn, own, entry := r.kernel.conn, &nftables.Chain{Name: name, Table: table}, &nftables.Chain{Name: from, Table: table}
	if rules, err := conn.GetRules(table, own); err != nil || len(rules) == 0 {
		return err
	}
	rules, err := conn.GetRules(table, entry)
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if !jumpsTo(rule.Exprs, name) {
			continue
		}
		rule.Table, rule.Chain = table, entry
		if err := conn.DelRule(rule); err != nil {
			return err
		}
	}
	conn.FlushChain(own)
	conn.DelChain(own)
	return conn.Flush()
}

func jumpsTo(exprs []expr.Any, chain string) bool {
	return slices.ContainsFunc(exprs, func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && v.Kind == expr.VerdictJump && v.Chain == chain
	})
}
