package bridge

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// heard says whether a datagram from one container reaches an address of another.
func (b *bed) heard(from, to *plugin.Call, address string) bool {
	b.t.Helper()
	var l net.PacketConn
	err := to.Pod.Do(func() (err error) {
		l, err = net.ListenPacket("udp", netip.AddrPortFrom(netip.MustParseAddr(address), 9).String())
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = from.Pod.Do(func() error {
		c, err := net.Dial("udp", l.LocalAddr().String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_, err = c.Write([]byte("x"))
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	_ = l.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
	_, _, err = l.ReadFrom(make([]byte, 8))
	return err == nil
}

func TestRootMACSpoofCheck(t *testing.T) {
	b := newBed(t)
	const conf = `"macspoofchk":true,"ipam":{"type":"x"}`
	b.ips = []string{"10.0.0.2/24"}
	honest := b.call("honest", conf)
	b.add(honest)
	b.ips = []string{"10.0.0.3/24"}
	other := b.call("other", `"ipam":{"type":"x"}`)
	b.add(other)
	if !b.heard(honest, other, "10.0.0.3") || !b.heard(other, honest, "10.0.0.2") {
		t.Error("they do not hear each other")
	}
	setMAC := func(c *plugin.Call, mac net.HardwareAddr) {
		t.Helper()
		l, err := c.Pod.Link("eth0")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Pod.Netlink().LinkSetHardwareAddr(l, mac); err != nil {
			t.Fatal(err)
		}
	}
	setMAC(honest, net.HardwareAddr{2, 0, 0, 0, 0, 9})
	setMAC(other, net.HardwareAddr{2, 0, 0, 0, 0, 8})
	if b.heard(honest, other, "10.0.0.3") {
		t.Error("what comes from another MAC address is not dropped")
	}
	setMAC(honest, link.MACFor(netip.MustParseAddr("10.0.0.2")))
	if !b.heard(other, honest, "10.0.0.2") {
		t.Error("a port that is not held to its address is")
	}
	held := func(want bool) {
		t.Helper()
		port := b.port(honest).Attrs().Name
		got, err := b.guard.Held(honest.Owner(), port, link.MACFor(netip.MustParseAddr("10.0.0.2")))
		if got != want || err != nil {
			t.Errorf("held: %t, %v", got, err)
		}
	}
	held(true)
	for range 2 {
		if err := b.guard.Keep(map[string]bool{honest.Owner(): true}); err != nil {
			t.Fatal(err)
		}
	}
	held(true)
	if err := b.guard.Release(honest.Owner()); err != nil {
		t.Fatal(err)
	}
	l, _ := honest.Pod.Link("eth0")
	br, err := b.side.bridge(&config{Bridge: "cni0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.checkPair(&config{MACSpoofCheck: true}, honest, l, br); !errors.Is(err, podif.ErrChanged) {
		t.Errorf("got %v", err)
	}
	if err := b.Del(context.Background(), honest); err != nil {
		t.Fatal(err)
	}
	if err := b.guard.Prune(); err != nil {
		t.Fatal(err)
	}
	conn, err := nftables.New(nftables.WithNetNSFd(b.host.FD()))
	if err != nil {
		t.Fatal(err)
	}
	if left, err := conn.ListTablesOfFamily(nftables.TableFamilyBridge); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestRootReferenceSpoofRulesGo lays what the reference plugin makes by nft for two containers, and releases one.
func TestRootReferenceSpoofRulesGo(t *testing.T) {
	b := newBed(t)
	conn, err := nftables.New(nftables.WithNetNSFd(b.host.FD()))
	if err != nil {
		t.Fatal(err)
	}
	table, prio := conn.AddTable(&nftables.Table{Name: "nat", Family: nftables.TableFamilyBridge}), nftables.ChainPriority(-300)
	base := conn.AddChain(&nftables.Chain{
		Name: "PREROUTING", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: &prio,
	})
	for _, id := range []string{"a-eth0", "b-eth0"} {
		comment := userdata.AppendString(nil, userdata.TypeComment, "macspoofchk-"+id)
		port := conn.AddChain(&nftables.Chain{Name: "cni-br-iface-" + id, Table: table})
		mac := conn.AddChain(&nftables.Chain{Name: "cni-br-iface-" + id + "-mac", Table: table})
		for from, to := range map[*nftables.Chain]*nftables.Chain{base: port, port: mac} {
			conn.AddRule(&nftables.Rule{Table: table, Chain: from, UserData: comment, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to.Name}}})
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: mac, UserData: comment, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	c := b.call("a", `"macspoofchk":true`)
	for range 2 {
		if err := b.Del(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyBridge)
	if err != nil || len(chains) != 3 {
		t.Errorf("%d chains left, want the base and two of the other: %v", len(chains), err)
	}
	rules, err := conn.GetRules(table, base)
	if err != nil || len(rules) != 1 {
		t.Errorf("%d rules left, %v", len(rules), err)
	}
}
