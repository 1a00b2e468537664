package firewall

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// bed is a host that forwards between bridges, each with ports in namespaces of their own, and by default drops what it forwards.
type bed struct {
	*Plugin
	t    *testing.T
	host *link.Space
	ends map[string]*link.Space // by address
}

func newBed(t *testing.T) *bed {
	host := linktest.Host(t)
	filter := nft.NewFilter(host.FD(), "berth-test")
	t.Cleanup(func() { _ = filter.Close() })
	b := &bed{Plugin: New(host, filter), t: t, host: host, ends: map[string]*link.Space{}}
	b.firewalld = filepath.Join(t.TempDir(), "none")
	if err := host.SetSysctls("net/ipv4", link.Sysctl{Name: "ip_forward", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	return b
}

// join joins a namespace with an address to an interface of the host's called name, which is the network's first address.
func (b *bed) join(name, address string) {
	b.t.Helper()
	path, _ := linktest.Pod(b.t)
	far := linktest.Open(b.t, path)
	batch := b.host.Batch()
	batch.AddVeth(link.Veth{Name: name, MAC: link.RandomMAC(), Pod: far, PodName: "eth0", PodMAC: link.RandomMAC()})
	found := batch.Look(name)
	if err := batch.Run(); err != nil {
		b.t.Fatal(err)
	}
	p := netip.MustParsePrefix(address)
	gw := p.Masked().Addr().Next()
	batch = far.Batch()
	batch.AddAddress(found.Peer, p, false)
	batch.Up(found.Peer)
	batch.AddRoute(found.Peer, link.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gw: gw})
	if err := batch.Run(); err != nil {
		b.t.Fatal(err)
	}
	batch = b.host.Batch()
	batch.AddAddress(found.Index, netip.PrefixFrom(gw, p.Bits()), false)
	batch.Up(found.Index)
	if err := batch.Run(); err != nil {
		b.t.Fatal(err)
	}
	for space, name := range map[*link.Space]string{b.host: name, far: "eth0"} {
		if err := space.AwaitUp(b.t.Context(), name); err != nil {
			b.t.Fatal(err)
		}
	}
	b.ends[address] = far
	var l net.Listener
	linktest.In(b.t, far, func() (err error) {
		l, err = net.Listen("tcp", ":80")
		return err
	})
	b.t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "here")
			_ = c.Close()
		}
	}()
}

func (b *bed) reaches(from, to string, want bool) {
	b.t.Helper()
	err := b.ends[from].Do(func() error {
		addr := netip.MustParsePrefix(to).Addr().String()
		c, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "80"), 500*time.Millisecond)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, err = io.ReadAll(c)
		return err
	})
	if (err == nil) != want {
		b.t.Errorf("%s to %s: %v", from, to, err)
	}
}

func (b *bed) call(name, keys, address, bridge string) *plugin.Call {
	result := `{"cniVersion":"1.0.0","ips":[{"address":"` + address + `"}],"interfaces":[{"name":"` + bridge + `"}]}`
	return &plugin.Call{
		Container: name, IfName: "eth0", Config: []byte(`{"cniVersion":"1.0.0","name":"net",` + keys + `"prevResult":` + result + `}`),
	}
}

// nf runs fn with a connection to the host's nf_tables.
func (b *bed) nf(fn func(*nftables.Conn)) {
	b.t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(b.host.FD()))
	if err != nil {
		b.t.Fatal(err)
	}
	fn(conn)
	if err := conn.Flush(); err != nil {
		b.t.Fatal(err)
	}
}

// dropForwarded is iptables -P FORWARD DROP.
func (b *bed) dropForwarded() {
	b.nf(func(conn *nftables.Conn) {
		table, drop := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4}), nftables.ChainPolicyDrop
		conn.AddChain(&nftables.Chain{
			Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
			Policy: &drop,
		})
	})
}

// rules are those of a chain of the host's filter.
func (b *bed) rules(chain string) (list []*nftables.Rule) {
	b.t.Helper()
	b.nf(func(conn *nftables.Conn) {
		table := &nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4}
		var err error
		if list, err = conn.GetRules(table, &nftables.Chain{Name: chain, Table: table}); err != nil {
			b.t.Fatal(err)
		}
	})
	return list
}

func TestRootHostThatDropsWhatItForwards(t *testing.T) {
	b := newBed(t)
	const pod, far, other = "10.1.0.2/24", "192.0.2.2/24", "10.2.0.2/24"
	b.join("br-a", pod)
	b.join("uplink", far)
	b.join("br-b", other)
	b.dropForwarded()
	b.reaches(pod, far, false)
	add := func(c *plugin.Call) {
		t.Helper()
		if _, err := b.Add(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	c := b.call("c1", "", pod, "br-a")
	add(c)
	add(c) // twice
	b.reaches(pod, far, true)
	b.reaches(far, pod, false) // nobody answers what it has not asked
	b.reaches(other, far, false)
	if err := b.Check(t.Context(), c); err != nil {
		t.Error(err)
	}
	one := len(b.rules("CNI-FORWARD"))
	d := b.call("c2", "", other, "br-b")
	add(d)
	b.reaches(other, far, true)
	b.reaches(pod, other, true)
	if many := len(b.rules("CNI-FORWARD")); many != one {
		t.Errorf("%d rules with one pod, %d with two", one, many)
	}

	// The administrator has the last word.
	b.nf(func(conn *nftables.Conn) {
		table := &nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4}
		conn.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "CNI-ADMIN", Table: table}, Exprs: append(
			nft.Address(true, netip.MustParsePrefix(pod), false), &expr.Verdict{Kind: expr.VerdictDrop})})
	})
	b.reaches(pod, far, false)
	b.reaches(other, far, true)

	// Somebody flushes the rule set: what comes next puts it back.
	b.nf(func(conn *nftables.Conn) { conn.FlushRuleset() })
	b.dropForwarded()
	next := nft.NewFilter(b.host.FD(), "berth-test")
	t.Cleanup(func() { _ = next.Close() })
	b.filter = next
	add(d)
	b.reaches(other, far, true)

	for range 2 {
		for _, gone := range []*plugin.Call{c, d} {
			if err := b.Del(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.reaches(other, far, false)
	if err := b.Check(t.Context(), d); !errors.Is(err, podif.ErrChanged) {
		t.Errorf("got %v", err)
	}
	if err := b.filter.Keep(nil); err != nil {
		t.Fatal(err)
	}
	b.nf(func(conn *nftables.Conn) {
		tables, err := conn.ListTables()
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(tables, func(k *nftables.Table) bool { return strings.HasPrefix(k.Name, "berth") }) {
			t.Error("our table is left")
		}
	})
	if left := b.rules("CNI-FORWARD"); len(left) != 1 { // the jump to the administrator's chain
		t.Errorf("rules left: %d", len(left))
	}
}

func TestRootIngressPolicy(t *testing.T) {
	b := newBed(t)
	const a1, b1, far = "10.1.0.2/24", "10.2.0.2/24", "192.0.2.2/24"
	b.join("br-a", a1)
	b.join("br-b", b1)
	b.join("uplink", far)
	b.reaches(a1, b1, true)
	for name, c := range map[string]*plugin.Call{
		"a": b.call("a", `"ingressPolicy":"same-bridge",`, a1, "br-a"), "b": b.call("b", `"ingressPolicy":"isolated",`, b1, "br-b"),
	} {
		if _, err := b.Add(t.Context(), c); err != nil {
			t.Fatal(name, err)
		}
	}
	b.reaches(a1, b1, false)
	b.reaches(b1, a1, false)
	b.reaches(a1, far, true)
	b.reaches(far, a1, true)
	c := b.call("c", `"ingressPolicy":"same-bridge",`, a1, "br-a")
	c.Config = []byte(strings.Replace(string(c.Config), `{"name":"br-a"}`, `{"name":"eth0","sandbox":"/x"}`, 1))
	bad := &plugin.KeyError{}
	if _, err := b.Add(t.Context(), c); !errors.As(err, &bad) || bad.Key != "ingressPolicy" {
		t.Errorf("without a bridge: %v", err)
	}
}

// TestRootReferenceRulesGo lays the rules that the reference plugin makes by iptables for two pods, and releases one.
func TestRootReferenceRulesGo(t *testing.T) {
	b := newBed(t)
	lay := func(address string) {
		b.nf(func(conn *nftables.Conn) {
			table := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
			chain := conn.AddChain(&nftables.Chain{Name: "CNI-FORWARD", Table: table})
			ip := netip.MustParseAddr(address).AsSlice()
			for _, offset := range []uint32{12, 16} {
				conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
					&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ip}, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept},
				}})
			}
		})
	}
	lay("10.1.0.2")
	lay("10.1.0.3")
	if err := b.Del(t.Context(), b.call("c1", "", "10.1.0.2/24", "br-a")); err != nil {
		t.Fatal(err)
	}
	if left := b.rules("CNI-FORWARD"); len(left) != 2 {
		t.Errorf("%d rules left of two pods, want 2 of the other", len(left))
	}
}

func TestRootSupports(t *testing.T) {
	b := newBed(t)
	for conf, key := range map[string]string{`{}`: "", `{"backend":"iptables"}`: "", `{"backend":"firewalld"}`: "backend", `{"backend":"x"}`: ""} {
		err := b.Supports([]byte(conf))
		bad := &plugin.KeyError{}
		if key == "" && err != nil || key != "" && (!errors.As(err, &bad) || bad.Key != key) {
			t.Errorf("%s: %v", conf, err)
		}
	}
	if err := os.WriteFile(b.firewalld, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Supports([]byte(`{}`)); err == nil {
		t.Error("firewalld is not noticed")
	}
	if err := b.Supports([]byte(`{"backend":"iptables"}`)); err != nil {
		t.Error(err)
	}
}
