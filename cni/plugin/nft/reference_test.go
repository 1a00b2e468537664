package nft

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestMasqueradeComment: SHA-512 of the network, and of interface:container, 16 digits each (printf net | sha512sum).
func TestMasqueradeComment(t *testing.T) {
	if got := masqueradeComment("net", "c0/eth0"); got != "a4861f4ae9f7d238-2a0d3e57a9666b18" {
		t.Errorf("%s", got)
	}
}

// releaseFirst releases the first of a test's pods, twice: a DEL may come again.
func releaseFirst(t *testing.T, tables *Tables) {
	t.Helper()
	for range 2 {
		if err := tables.ReleaseMasquerade("net", "c0/eth0"); err != nil {
			t.Fatal(err)
		}
		if err := tables.Release("net", "c0/eth0"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootReferenceRules lays rules as the reference plugins do, of two pods, and releases one.
func TestRootReferenceRules(t *testing.T) {
	host := linktest.Host(t)
	conn, err := nftables.New(nftables.WithNetNSFd(host.FD()))
	if err != nil {
		t.Fatal(err)
	}
	lay := func(family nftables.TableFamily, table string, comments ...string) {
		k := conn.AddTable(&nftables.Table{Name: table, Family: family})
		for _, name := range referenceChains[table] {
			chain := conn.AddChain(&nftables.Chain{Name: name, Table: k})
			for _, c := range comments {
				conn.AddRule(&nftables.Rule{
					Table: k, Chain: chain, Exprs: []expr.Any{&expr.Counter{}}, UserData: userdata.AppendString(nil, userdata.TypeComment, c),
				})
			}
		}
	}
	masq := func(owner string) string { return masqueradeComment("net", owner) + ", net: net, if: eth0, id: x" }
	lay(nftables.TableFamilyINet, referenceMasquerade, masq("c0/eth0"), masq("c1/eth0"), "")
	lay(nftables.TableFamilyIPv4, referenceHostPorts, "c0", "c1")
	lay(nftables.TableFamilyIPv6, referenceHostPorts, "c0", "c0", "c1")
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	tables := New(host.FD(), "berth-test")
	defer func() { _ = tables.Close() }()
	releaseFirst(t, tables)
	left := map[string][]string{}
	all, err := conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		for _, name := range referenceChains[k.Name] {
			rules, err := conn.GetRules(k, &nftables.Chain{Name: name, Table: k})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rules {
				c, _ := userdata.GetString(r.UserData, userdata.TypeComment)
				left[k.Name] = append(left[k.Name], c)
			}
		}
	}
	if !slices.Equal(left[referenceMasquerade], []string{masq("c1/eth0"), ""}) || !slices.Equal(left[referenceHostPorts], slices.Repeat([]string{"c1"}, 6)) {
		t.Errorf("left %q", left)
	}
	// Among them our own tables work as ever.
	if err := tables.Masquerade("net", "c2/eth0", []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}, []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	if err := tables.ReleaseMasquerade("net", "c2/eth0"); err != nil {
		t.Fatal(err)
	}
}
