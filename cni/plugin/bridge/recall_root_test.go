package bridge

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// TestRootBridgeChangedBehindOurBack takes away what is remembered of a bridge: a bridge that is gone, or another of its name, is noticed by
// the next container, what it has lost once that is not believed any more.
func TestRootBridgeChangedBehindOurBack(t *testing.T) {
	b := newBed(t)
	conf := `"isGateway":true,"ipam":{"type":"x"}`
	gateway := netip.MustParsePrefix("10.0.0.1/24")
	has := func(want bool) {
		t.Helper()
		br, err := b.host.Link("cni0")
		if err != nil || br == nil {
			t.Fatal(br, err)
		}
		have, err := b.host.Addresses(br.Attrs().Index)
		if got := slices.ContainsFunc(have, func(a link.Address) bool { return a.Prefix == gateway }); err != nil || got != want {
			t.Fatalf("bridge has its address: %t, %v", got, err)
		}
	}
	b.ips = []string{"10.0.0.2/24"}
	b.add(b.call("a", conf))
	has(true)
	old, _ := b.host.Link("cni0")
	if err := b.host.DeleteAt(old.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	b.ips = []string{"10.0.0.3/24"}
	c := b.call("b", conf)
	r := b.add(c)
	has(true)
	now, _ := b.host.Link("cni0")
	if at := b.port(c).Attrs().MasterIndex; at != now.Attrs().Index || r.Interfaces[0].Mac != now.Attrs().HardwareAddr.String() {
		t.Errorf("port of %d, the bridge is %d; result %+v", at, now.Attrs().Index, r.Interfaces[0])
	}
	if err := b.host.DeleteAddress(now.Attrs().Index, gateway); err != nil {
		t.Fatal(err)
	}
	b.side.known["cni0"].until = time.Now().Add(-time.Second)
	b.ips = []string{"10.0.0.4/24"}
	b.add(b.call("c", conf))
	has(true)

	// Something else has the name now.
	if err := b.host.DeleteAt(now.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	batch := b.host.Batch()
	batch.AddVeth(link.Veth{Name: "cni0", MAC: link.RandomMAC(), Pod: b.host, PodName: "other", PodMAC: link.RandomMAC()})
	if err := batch.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(t.Context(), b.call("d", conf)); !errors.Is(err, ErrNotBridge) {
		t.Errorf("got %v", err)
	}
}
