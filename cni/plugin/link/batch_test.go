package link_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// upPair is a pair whose both ends are up.
func upPair(t *testing.T, host *link.Space, name string) (pod *link.Space, index int) {
	t.Helper()
	pod, _, end := pair(t, host, name)
	t.Cleanup(end)
	index, err := pod.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := linktest.Up(pod, index); err != nil {
		t.Fatal(err)
	}
	return pod, index
}

// TestRootBatchGoesOn has a batch of which one change fails: those before and after it are made, and the error says which it was.
func TestRootBatchGoesOn(t *testing.T) {
	pod, index := upPair(t, linktest.Host(t), "v0")
	b := pod.Batch()
	b.AddAddress(index, netip.MustParsePrefix("10.0.0.2/24"), false)
	b.AddRoute(index, link.Route{Dst: netip.MustParsePrefix("10.1.0.0/16"), Gw: netip.MustParseAddr("192.0.2.1")})
	b.AddAddress(index, netip.MustParsePrefix("fd00::2/64"), false)
	err := b.Run()
	if !errors.Is(err, syscall.ENETUNREACH) || !strings.Contains(err.Error(), "10.1.0.0/16 via 192.0.2.1") {
		t.Errorf("got %v", err)
	}
	have, err := pod.Addresses(index)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.0.0.2/24", "fd00::2/64"} {
		if !slices.ContainsFunc(have, func(a link.Address) bool { return a.Prefix.String() == want && !a.Tentative }) {
			t.Errorf("no %s in %v", want, have)
		}
	}
	if err := pod.Batch().Run(); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

// TestRootBatchAgain runs a batch twice: addresses are replaced, and what others ask on the same socket meanwhile is answered.
func TestRootBatchAgain(t *testing.T) {
	pod, index := upPair(t, linktest.Host(t), "v0")
	b := pod.Batch()
	b.AddAddress(index, netip.MustParsePrefix("10.0.0.2/24"), false)
	b.Up(index)
	done := make(chan error)
	go func() {
		for range 50 {
			if _, err := pod.Addresses(index); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 50 {
		if err := b.Run(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRootBroadcast(t *testing.T) {
	pod, index := upPair(t, linktest.Host(t), "v0")
	b := pod.Batch()
	for _, p := range []string{"10.0.0.2/24", "10.1.0.2/31", "10.2.0.2/32", "10.3.0.1/9"} {
		b.AddAddress(index, netip.MustParsePrefix(p), false)
	}
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	l, err := pod.LinkAt(index)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pod.Netlink().AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"10.0.0.2/24": "10.0.0.255", "10.1.0.2/31": "<nil>", "10.2.0.2/32": "<nil>", "10.3.0.1/9": "10.127.255.255"}
	for _, a := range list {
		if got := a.Broadcast.String(); got != want[a.IPNet.String()] {
			t.Errorf("%s has the broadcast address %s", a.IPNet, got)
		}
	}
	if len(list) != len(want) {
		t.Errorf("%d addresses", len(list))
	}
}

// TestRootRoutes adds routes with all that a CNI result can say of one, and reads them from the kernel.
func TestRootRoutes(t *testing.T) {
	pod, index := upPair(t, linktest.Host(t), "v0")
	gw4, gw6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	b := pod.Batch()
	b.AddAddress(index, netip.MustParsePrefix("10.0.0.2/24"), false)
	b.AddAddress(index, netip.MustParsePrefix("fd00::2/64"), false)
	b.AddRoute(index, link.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gw: gw4, Priority: 7})
	b.AddRoute(index, link.Route{Dst: netip.MustParsePrefix("::/0"), Gw: gw6, MTU: 1300, AdvMSS: 1200})
	b.AddRoute(index, link.Route{Dst: netip.MustParsePrefix("10.1.0.0/16"), Gw: gw4, Table: 300, Src: netip.MustParseAddr("10.0.0.2")})
	b.AddRoute(index, link.Route{Dst: netip.MustParsePrefix("10.2.0.0/16"), Scope: int(netlink.SCOPE_LINK), Table: 9})
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	find := func(family, table int, dst string) netlink.Route {
		t.Helper()
		list, err := pod.Netlink().RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.Dst.String() == dst && r.LinkIndex == index {
				return r
			}
		}
		t.Fatalf("no route to %s in table %d: %v", dst, table, list)
		return netlink.Route{}
	}
	if r := find(netlink.FAMILY_V4, 254, "0.0.0.0/0"); r.Priority != 7 || r.Gw.String() != gw4.String() {
		t.Errorf("%+v", r)
	}
	if r := find(netlink.FAMILY_V6, 254, "::/0"); r.MTU != 1300 || r.AdvMSS != 1200 {
		t.Errorf("%+v", r)
	}
	if r := find(netlink.FAMILY_V4, 300, "10.1.0.0/16"); r.Src.String() != "10.0.0.2" {
		t.Errorf("%+v", r)
	}
	if r := find(netlink.FAMILY_V4, 9, "10.2.0.0/16"); r.Scope != netlink.SCOPE_LINK || r.Gw != nil {
		t.Errorf("%+v", r)
	}
	again := pod.Batch()
	again.AddRoute(index, link.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gw: gw4, Priority: 7})
	if err := again.Run(); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("the same again: %v", err)
	}
	other := pod.Batch()
	other.AddRoute(index, link.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gw: netip.MustParseAddr("10.0.0.9"), Priority: 7, Replace: true})
	if err := other.Run(); err != nil {
		t.Errorf("in its place: %v", err)
	}
	if r := find(netlink.FAMILY_V4, 254, "0.0.0.0/0"); r.Gw.String() != "10.0.0.9" {
		t.Errorf("%+v", r)
	}
	for range 2 {
		if err := pod.DeleteRoute(index, netip.MustParsePrefix("fd00::/64")); err != nil {
			t.Error(err)
		}
	}
}

// TestRootAddressAlone has no route to the address's subnet.
func TestRootAddressAlone(t *testing.T) {
	pod, index := upPair(t, linktest.Host(t), "v0")
	b := pod.Batch()
	b.AddAddressAlone(index, netip.MustParsePrefix("10.0.0.2/24"))
	b.AddAddressAlone(index, netip.MustParsePrefix("fd00::2/64"))
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.0.0.3", "fd00::3"} {
		if routes, err := pod.Netlink().RouteGet(netip.MustParseAddr(to).AsSlice()); err == nil {
			t.Errorf("%s is reached by %v", to, routes)
		}
	}
}

func TestRootMove(t *testing.T) {
	host := linktest.Host(t)
	pod, _, end := pair(t, host, "v0")
	defer end()
	path, _ := linktest.Pod(t)
	third := linktest.Open(t, path)
	index, err := pod.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Move(pod, index, third, "net1", "eth0"); err != nil {
		t.Fatal(err)
	}
	l, err := third.Link("net1")
	if err != nil || l == nil || l.Attrs().Alias != "eth0" {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := pod.Index("eth0"); err == nil {
		t.Error("it is still where it was")
	}
	if err := link.Move(third, l.Attrs().Index, pod, "lo", ""); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("to a name that is taken: %v", err)
	}
	if l, err := third.Link("net1"); err != nil || l == nil {
		t.Errorf("a move that failed has moved: %v, %v", l, err)
	}
}

func TestRootAwaitUp(t *testing.T) {
	host := linktest.Host(t)
	pod, _ := upPair(t, host, "v0")
	for space, name := range map[*link.Space]string{host: "v0", pod: "eth0"} {
		if err := space.AwaitUp(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if err := host.AwaitUp(t.Context(), "none"); err == nil {
		t.Error("an interface that is not there is up")
	}
}
