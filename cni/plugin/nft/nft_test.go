package nft

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func port(host uint16, to string, hostIP string) Port {
	p := Port{Protocol: TCP, Host: host, To: netip.MustParseAddrPort(to), Bits: 24}
	if hostIP != "" {
		p.HostIP = netip.MustParseAddr(hostIP)
	}
	return p
}

func TestElementsSurviveTheKernelsForm(t *testing.T) {
	list := []element{
		port(80, "10.0.0.2:8080", "").element("a/eth0"),
		port(80, "10.0.0.2:8080", "192.0.2.1").element("a/eth0"),
		port(80, "[fd00::2]:8080", "2001:db8::1").element("a/eth0"),
		masqElement(netip.MustParsePrefix("10.0.0.2/24"), "a/eth0"),
		masqElement(netip.MustParsePrefix("fd00::2/64"), "a/eth0"),
	}
	list = append(list, snatElements(netip.MustParsePrefix("10.0.0.2/24"), "a/eth0")...)
	for _, e := range list {
		if got := fromKernel(e.set, e.kernel()); got != e {
			t.Errorf("%+v became %+v", e, got)
		}
	}
	if got := list[0].key; got != "\x06\x00\x00\x00\x00\x50\x00\x00" {
		t.Errorf("key %q", got)
	}
	if got := list[0].val; got != "\x0a\x00\x00\x02\x1f\x90\x00\x00" {
		t.Errorf("value %q", got)
	}
	if got := list[4].subnet(); got != netip.MustParsePrefix("fd00::/64") {
		t.Errorf("subnet %s", got)
	}
	// Comments that others wrote must not make us panic.
	for _, comment := range []string{"x 999", "x -1", "x y", "", " "} {
		fromKernel("masq4", nftables.SetElement{Key: []byte{10, 0, 0, 1}, Comment: comment}).subnet()
	}
}

func TestRootTables(t *testing.T) {
	host := linktest.Host(t)
	tables := New(host.FD(), "berth-test")
	defer func() { _ = tables.Close() }()
	opts := Options{SNAT: true, Hairpin: true}
	publish := func(network, owner string, ports ...Port) error { return tables.Publish(network, owner, ports, opts) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(tables.Masquerade("net", "a/eth0", []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")}, nil))
	must(publish("net", "a/eth0", port(80, "10.0.0.2:80", ""), port(81, "10.0.0.2:80", "192.0.2.1")))
	must(publish("net", "a/eth0", port(80, "10.0.0.2:80", ""))) // twice
	must(publish("net", "b/eth0", port(80, "[fd00::2]:80", "")))

	var taken *TakenError
	if err := publish("other", "c/eth0", port(80, "10.9.0.2:80", "")); !errors.As(err, &taken) || taken.Holder != "a/eth0" {
		t.Errorf("in another network: %v", err)
	}
	if err := publish("net", "c/eth0", port(81, "10.0.0.9:80", "")); !errors.As(err, &taken) || !strings.Contains(err.Error(), "81/tcp") {
		t.Errorf("all over one address: %v", err)
	}
	if err := tables.Masquerade("net", strings.Repeat("x", 130), []netip.Prefix{netip.MustParsePrefix("10.0.0.3/24")}, nil); err == nil {
		t.Error("an owner that no comment can hold")
	}

	// A second mirror, as of the next daemon, sees what the first left.
	next := New(host.FD(), "berth-test")
	defer func() { _ = next.Close() }()
	if err := next.Publish("net", "c/eth0", []Port{port(80, "10.0.0.9:80", "")}, opts); !errors.As(err, &taken) || taken.Holder != "a/eth0" {
		t.Errorf("after a restart: %v", err)
	}
	for want, p := range map[bool]Port{true: port(80, "10.0.0.2:80", ""), false: port(80, "10.0.0.3:80", "")} {
		if got, err := next.Published("net", "a/eth0", p); err != nil || got != want {
			t.Errorf("published %v: %t, %v", p, got, err)
		}
	}
	must(next.KeepAll(map[string]bool{"b/eth0": true}))
	names, err := next.Names()
	if err != nil || len(names) != 1 {
		t.Errorf("tables %v, %v", names, err)
	}
	must(next.Release("net", "b/eth0"))
	must(next.Release("net", "b/eth0"))
	must(next.ReleaseMasquerade("nonesuch", "b/eth0"))
	must(next.Prune())
	conn, err := nftables.New(nftables.WithNetNSFd(host.FD()))
	must(err)
	left, err := conn.ListTables()
	if err != nil || len(left) > 0 {
		t.Errorf("tables left: %v, %v", left, err)
	}
}

func TestRootManyElementsInOneTransaction(t *testing.T) {
	host := linktest.Host(t)
	tables := New(host.FD(), "berth-test")
	defer func() { _ = tables.Close() }()
	var ports []Port
	for i := range 2000 {
		ports = append(ports, port(uint16(10000+i), "10.0.0.2:80", ""))
	}
	if err := tables.Publish("net", "a/eth0", ports, Options{}); err != nil {
		t.Fatal(err)
	}
	next := New(host.FD(), "berth-test")
	defer func() { _ = next.Close() }()
	if ok, err := next.Published("net", "a/eth0", ports[1999]); !ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	if err := next.Release("net", "a/eth0"); err != nil {
		t.Fatal(err)
	}
}

func TestSubnetsFollowElements(t *testing.T) {
	tab := newTable("x")
	a, b := masqElement(netip.MustParsePrefix("10.0.0.2/24"), "a"), masqElement(netip.MustParsePrefix("10.0.0.3/24"), "b")
	tab.put(a)
	tab.put(a)
	tab.put(b)
	tab.drop(a.set + a.key)
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	if got := tab.subnetsOf(setMasq, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("subnets %v", got)
	}
	tab.drop(b.set + b.key)
	if got := tab.subnetsOf(setMasq, nil); len(got) > 0 {
		t.Errorf("subnets %v", got)
	}
}
