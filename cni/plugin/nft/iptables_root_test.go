package nft

import (
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func TestChainOf(t *testing.T) {
	// As utils.FormatChainName and MustFormatChainNameWithPrefix of containernetworking/plugins have them, from their tests.
	for got, want := range map[string]string{
		chainOf("CNI-", "test", "1234"):        "CNI-2bbe0c48b91a7d1b8a6753a8",
		chainOf("CNI-PREFIX-", "test", "1234"): "CNI-PREFIX-2bbe0c48b91a7d1b8",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestRootIPTablesChainsGo lays what the reference plugins' backend iptables makes for two pods, in both families, and releases one.
func TestRootIPTablesChainsGo(t *testing.T) {
	host := linktest.Host(t)
	conn, err := nftables.New(nftables.WithNetNSFd(host.FD()))
	if err != nil {
		t.Fatal(err)
	}
	families := []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}
	for _, family := range families {
		table := conn.AddTable(&nftables.Table{Name: natTable, Family: family})
		for from, prefix := range map[string]string{"POSTROUTING": "CNI-", "CNI-HOSTPORT-DNAT": "CNI-DN-"} {
			entry := conn.AddChain(&nftables.Chain{Name: from, Table: table})
			for _, pod := range []string{"c0", "c1"} {
				own := conn.AddChain(&nftables.Chain{Name: chainOf(prefix, "net", pod), Table: table})
				conn.AddRule(&nftables.Rule{Table: table, Chain: own, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}})
				for range 2 { // portmap has one for each protocol
					conn.AddRule(&nftables.Rule{Table: table, Chain: entry, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictJump, Chain: own.Name}}})
				}
			}
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	tables := New(host.FD(), "berth-test")
	defer func() { _ = tables.Close() }()
	releaseFirst(t, tables)
	for _, family := range families {
		chains, err := conn.ListChainsOfTableFamily(family)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range chains {
			names = append(names, c.Name)
			if c.Name == "POSTROUTING" || c.Name == "CNI-HOSTPORT-DNAT" {
				if rules, err := conn.GetRules(c.Table, c); err != nil || len(rules) != 2 {
					t.Errorf("%s has %d rules, %v", c.Name, len(rules), err)
				}
			}
		}
		want := []string{"CNI-HOSTPORT-DNAT", "POSTROUTING", chainOf("CNI-", "net", "c1"), chainOf("CNI-DN-", "net", "c1")}
		slices.Sort(names)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("chains %v, want %v", names, want)
		}
	}
}
