package bridge

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootRoutesOfTheHost: a subnet to which the host has a route by another interface, that is taken before the bridge's, is refused. One that
// is wider, that comes after, or to some of the addresses, may stand.
func TestRootRoutesOfTheHost(t *testing.T) {
	for _, c := range []struct {
		dst      string
		priority int
		refused  bool
	}{
		{"10.9.0.0/24", 0, true}, {"10.9.0.0/24", 100, false}, {"10.9.0.0/16", 0, false}, {"10.9.0.77/32", 0, false}, {"10.8.0.0/24", 0, false},
		{"fd00:9::/64", 100, true}, {"fd00:9::/64", 0, false}, // 0 is 1024, and the bridge's 256
		{"fd00::/16", 0, false},
	} {
		b := newBed(t)
		linktest.Joined(t, b.host, "uplink")
		if err := linktest.UpPort(b.host, "uplink", link.Port{}); err != nil {
			t.Fatal(err)
		}
		index, err := b.host.Index("uplink")
		if err != nil {
			t.Fatal(err)
		}
		batch := b.host.Batch()
		batch.AddRoute(index, link.Route{Dst: netip.MustParsePrefix(c.dst), Priority: c.priority, Scope: scopeOf(c.dst)})
		if err := batch.Run(); err != nil {
			t.Fatal(err)
		}
		b.ips = []string{"10.9.0.2/24", "fd00:9::2/64"}
		call := b.call("a", `"isGateway":true,"ipam":{"type":"x"}`)
		_, err = b.Add(t.Context(), call)
		if bad := (&plugin.KeyError{}); c.refused && (!errors.Is(err, ErrOverlap) || !errors.As(err, &bad) || bad.Key != "ipam" || !strings.Contains(err.Error(), c.dst+" of uplink")) {
			t.Errorf("%s, metric %d: %v", c.dst, c.priority, err)
		}
		if c.refused {
			continue
		}
		if err != nil {
			t.Errorf("%s, metric %d: %v", c.dst, c.priority, err)
			continue
		}
		for _, ip := range []string{"10.9.0.2", "fd00:9::2"} { // and it is the bridge that the host sends by
			routes, err := b.host.Netlink().RouteGet(netip.MustParseAddr(ip).AsSlice())
			if err != nil || len(routes) == 0 || routes[0].LinkIndex != b.bridgeNow().Index {
				t.Errorf("%s, metric %d: %s goes by %v, %v", c.dst, c.priority, ip, routes, err)
			}
		}
	}
}

// scopeOf is that of a route without a gateway: IPv6 has none.
func scopeOf(dst string) int {
	if netip.MustParsePrefix(dst).Addr().Is4() {
		return 253 // RT_SCOPE_LINK of rtnetlink(7)
	}
	return 0
}
