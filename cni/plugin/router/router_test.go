package router

import (
	"net/netip"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// TestRootForward makes a host a router, family by family. Interfaces that heard routers go on to.
func TestRootForward(t *testing.T) {
	host := linktest.Host(t)
	path, _ := linktest.Pod(t)
	far := linktest.Open(t, path)
	for _, name := range []string{"hears", "deaf"} {
		if err := linktest.AddVeth(host, link.Veth{Name: name, MAC: link.RandomMAC(), Pod: far, PodName: name, PodMAC: link.RandomMAC()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.SetSysctls("net/ipv6/conf/deaf", link.Sysctl{Name: "accept_ra", Value: "0"}); err != nil {
		t.Fatal(err)
	}
	want := func(name, value string) {
		t.Helper()
		if got, err := host.ReadSysctl(name); got != value || err != nil {
			t.Errorf("%s is %q, %v; wanted %s", name, got, err, value)
		}
	}
	for _, s := range [][2]string{{"net/ipv4", "ip_forward"}, {"net/ipv6/conf/all", "forwarding"}} {
		if err := host.SetSysctls(s[0], link.Sysctl{Name: s[1], Value: "0"}); err != nil {
			t.Fatal(err)
		}
	}
	r := New(host)
	if err := r.Forward(prefixes("10.0.0.1/24")); err != nil {
		t.Fatal(err)
	}
	want("net/ipv4/ip_forward", "1")
	want("net/ipv6/conf/all/forwarding", "0")
	for range 2 {
		if err := r.Forward(prefixes("10.0.0.1/24", "fd00::1/64")); err != nil {
			t.Fatal(err)
		}
	}
	want("net/ipv6/conf/all/forwarding", "1")
	want("net/ipv6/conf/hears/accept_ra", "2")
	want("net/ipv6/conf/deaf/accept_ra", "0")
	if err := r.Forward(nil); err != nil {
		t.Error(err)
	}
}
