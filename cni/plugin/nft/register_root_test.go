package nft

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func flushRuleset(t *testing.T, netns int) {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(netns))
	if err != nil {
		t.Fatal(err)
	}
	conn.FlushRuleset()
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestRootFilterAfterFlushAndRestart(t *testing.T) {
	host := linktest.Host(t)
	f := NewFilter(host.FD(), "berth-test")
	t.Cleanup(func() { _ = f.Close() })
	a, b := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	admitted := func(f *Filter, owner string, addr netip.Addr, want bool) {
		t.Helper()
		if got, err := f.Admitted(owner, addr); got != want || err != nil {
			t.Errorf("%s of %s: %t, %v", addr, owner, got, err)
		}
	}
	must(f.Admit("a/eth0", "CNI-ADMIN", []netip.Addr{a, b}))
	must(f.Isolate("br-a", true))
	must(f.Isolate("br-b", false))
	flushRuleset(t, host.FD())
	must(f.Isolate("br-c", false)) // in one piece with what was there
	admitted(f, "a/eth0", a, true)
	admitted(f, "a/eth0", b, true)
	admitted(f, "b/eth0", a, false)

	next := NewFilter(host.FD(), "berth-test") // the next daemon
	t.Cleanup(func() { _ = next.Close() })
	must(next.Isolate("br-a", false)) // opened
	name := interfaceKey("br-a")
	if _, closed := next.table.have[entry{setClosed, name + name}]; closed {
		t.Error("br-a is still closed")
	}
	if len(next.table.have) != 2+3+3 { // addresses, bridges, each to itself
		t.Errorf("entries %v", next.table.have)
	}
	must(next.Admit("c/eth0", "CNI-ADMIN", []netip.Addr{a})) // an address that was given out again
	admitted(next, "c/eth0", a, true)
	must(next.Release("a/eth0", nil))
	admitted(next, "c/eth0", a, true)
	admitted(next, "a/eth0", b, false)
	if err := next.Admit(strings.Repeat("x", 130), "CNI-ADMIN", []netip.Addr{b}); err == nil {
		t.Error("an owner that no comment can hold")
	}
	must(next.Keep(map[string]bool{"c/eth0": true}))
	admitted(next, "c/eth0", a, true)
	must(next.Keep(nil))
	must(next.Keep(nil))
	if next.table.live || len(next.table.have) > 0 {
		t.Errorf("left: %v", next.table.have)
	}
}

func TestRootGuardGivesUpWhatWasHeld(t *testing.T) {
	host := linktest.Host(t)
	g := NewGuard(host.FD(), "berth-test")
	t.Cleanup(func() { _ = g.Close() })
	one, two := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	held := func(port string, mac net.HardwareAddr, want bool) {
		t.Helper()
		if got, err := g.Held("a/eth0", port, mac); got != want || err != nil {
			t.Errorf("%s %s: %t, %v", port, mac, got, err)
		}
	}
	if err := g.Hold("a/eth0", "veth1", one); err != nil {
		t.Fatal(err)
	}
	held("veth1", one, true)
	held("veth1", two, false)
	flushRuleset(t, host.FD())
	held("veth1", one, false)
	if err := g.Hold("a/eth0", "veth2", two); err != nil { // attached anew
		t.Fatal(err)
	}
	held("veth1", one, false)
	held("veth2", two, true)
	for range 2 {
		if err := g.Release("a/eth0"); err != nil {
			t.Fatal(err)
		}
	}
	held("veth2", two, false)
}

func FuzzFromKernel(f *testing.F) {
	f.Add("masq4", []byte{10, 0, 0, 2}, []byte{}, "a/eth0 24")
	f.Add("hostports6", []byte("0123456789abcdef\x06\x00\x00\x00\x00\x50\x00\x00"), []byte("x"), "a/eth0")
	f.Fuzz(func(t *testing.T, set string, key, val []byte, comment string) {
		e := fromKernel(set, nftables.SetElement{Key: key, Val: val, Comment: comment})
		if p := e.subnet(); p.IsValid() && p != p.Masked() {
			t.Errorf("subnet %s of %+v", p, e)
		}
		if len(key) >= len(portKey(0, 0)) {
			e.single()
		}
	})
}
