package nft

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func TestRootHeldBackUntilCommit(t *testing.T) {
	host := linktest.Host(t)
	tables := New(host.FD(), "berth-test")
	defer func() { _ = tables.Close() }()
	opts := Options{SNAT: true}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	published := func(owner string, p Port, want bool) {
		t.Helper()
		if got, err := tables.Published("net", owner, p); got != want || err != nil {
			t.Fatalf("published: %t, %v", got, err)
		}
	}
	a := port(80, "10.0.0.2:80", "")
	tables.Hold("a/eth0")
	must(tables.Masquerade("net", "a/eth0", []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}, nil))
	must(tables.Publish("net", "a/eth0", []Port{a}, opts))
	published("a/eth0", a, false)
	must(tables.Publish("net", "b/eth0", []Port{port(81, "10.0.0.3:80", "")}, opts)) // whom nobody holds back
	must(tables.Commit("a/eth0"))
	published("a/eth0", a, true)
	if e, ok := tables.mirrors.open[tables.mirrors.name("net")].elements[masqElement(netip.MustParsePrefix("10.0.0.2/24"), "").set+"\x0a\x00\x00\x02"]; !ok || e.owner != "a/eth0" {
		t.Errorf("masqueraded: %+v", e)
	}
	must(tables.Commit("a/eth0")) // of nothing

	// A port that is taken is refused when it is asked for, and when it was taken meanwhile.
	var taken *TakenError
	tables.Hold("c/eth0")
	if err := tables.Publish("net", "c/eth0", []Port{a}, opts); !errors.As(err, &taken) {
		t.Errorf("got %v", err)
	}
	late := port(90, "10.0.0.4:80", "")
	must(tables.Publish("net", "c/eth0", []Port{late}, opts))
	must(tables.Publish("net", "d/eth0", []Port{port(90, "10.0.0.5:80", "")}, opts))
	if err := tables.Commit("c/eth0"); !errors.As(err, &taken) || taken.Holder != "d/eth0" {
		t.Errorf("got %v", err)
	}

	// What is dropped never was.
	tables.Hold("e/eth0")
	must(tables.Publish("net", "e/eth0", []Port{port(91, "10.0.0.6:80", "")}, opts))
	tables.Drop("e/eth0")
	must(tables.Commit("e/eth0"))
	published("e/eth0", port(91, "10.0.0.6:80", ""), false)
}
