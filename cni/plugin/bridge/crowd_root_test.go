package bridge

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin"
)

// bridgeNow is the bridge as the kernel has it.
func (b *bed) bridgeNow() *netlink.Bridge {
	b.t.Helper()
	l, err := b.host.Link(defaultBridge)
	if err != nil || l == nil {
		b.t.Fatal(l, err)
	}
	return l.(*netlink.Bridge)
}

// addresses are the bridge's, without the link-local one.
func (b *bed) addresses() []string {
	b.t.Helper()
	have, err := b.host.Addresses(b.bridgeNow().Index)
	if err != nil {
		b.t.Fatal(err)
	}
	var list []string
	for _, a := range have {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			list = append(list, a.Prefix.String())
		}
	}
	return list
}

// TestRootPortsHaveTheBridgesMAC: what the kernel does for a port that joins grows with the addresses that the bridge's table has of its own,
// so that is one, whatever the number of ports, and it stays when ports go.
func TestRootPortsHaveTheBridgesMAC(t *testing.T) {
	b := newBed(t)
	var calls []*plugin.Call
	for _, ip := range []string{"10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24"} {
		b.ips = []string{ip}
		c := b.call(ip, `"isGateway":true,"ipam":{"type":"x"}`)
		r := b.add(c)
		if own := b.bridgeNow().HardwareAddr.String(); b.port(c).Attrs().HardwareAddr.String() != own || r.Interfaces[1].Mac != own {
			t.Errorf("port has %s, says the result %s, the bridge %s", b.port(c).Attrs().HardwareAddr, r.Interfaces[1].Mac, own)
		}
		calls = append(calls, c)
	}
	own := func() (list []string) {
		entries, err := b.host.Netlink().NeighList(0, unix.AF_BRIDGE)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			// What is the bridge's own, or a port's, is permanent; the groups that an interface listens to stand there too.
			if e.State == netlink.NUD_PERMANENT && e.HardwareAddr[0]&1 == 0 {
				list = append(list, e.HardwareAddr.String())
			}
		}
		return list
	}
	want := b.bridgeNow().HardwareAddr.String()
	if list := own(); len(list) != 1 || list[0] != want {
		t.Errorf("the table's own addresses are %v, want %s", list, want)
	}
	if err := b.host.DeleteAt(b.port(calls[0]).Attrs().Index); err != nil {
		t.Fatal(err)
	}
	if list := own(); len(list) != 1 || list[0] != want || b.bridgeNow().HardwareAddr.String() != want {
		t.Errorf("without its first port: own addresses %v, bridge %s, want %s", list, b.bridgeNow().HardwareAddr, want)
	}
}

func TestPortMACOfABridgeWithoutOne(t *testing.T) {
	for _, mac := range [][]byte{nil, make([]byte, 6), {1, 2, 3, 4, 5, 6}} {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{HardwareAddr: mac}}
		if got := portMAC(br); len(got) != 6 || got[0]&3 != 2 {
			t.Errorf("bridge %x: port %s", mac, got)
		}
	}
}

// TestRootOwnBridgeFloods: snooping of a bridge that berth owns goes, also of one that was made with it, others' is left alone.
func TestRootOwnBridgeFloods(t *testing.T) {
	snoops := func(b *bed) bool {
		on := b.bridgeNow().MulticastSnooping
		return on != nil && *on
	}
	b := newBed(t)
	b.ips = []string{"10.0.0.2/24"}
	b.add(b.call("a", `"ipam":{"type":"x"}`))
	if !snoops(b) {
		t.Skip("the kernel's bridges have no multicast snooping")
	}
	mtu := b.bridgeNow().MTU
	b.side.known = map[string]*known{}
	b.add(b.call("b", `"ipam":{"type":"x"},"berthOwner":"me"`))
	if br := b.bridgeNow(); snoops(b) || br.MTU != mtu || br.Alias != "me" {
		t.Errorf("snooping %t, MTU %d, was %d, alias %q", snoops(b), br.MTU, mtu, br.Alias)
	}
	fresh := newBed(t)
	fresh.ips = b.ips
	fresh.add(fresh.call("a", `"ipam":{"type":"x"},"berthOwner":"me"`))
	if snoops(fresh) {
		t.Error("a new bridge of berth's own snoops")
	}
}

// TestRootOwnPortsAreAGroup: ports of a bridge that berth owns are told from all others.
func TestRootOwnPortsAreAGroup(t *testing.T) {
	b := newBed(t)
	b.ips = []string{"10.0.0.2/24"}
	for conf, want := range map[string]uint32{`"ipam":{"type":"x"},"bridge":"others"`: 0, `"ipam":{"type":"x"},"berthOwner":"me"`: ownPorts} {
		c := b.call(conf, conf)
		b.add(c)
		if got := b.port(c).Attrs().Group; got != want {
			t.Errorf("%s: group %d, want %d", conf, got, want)
		}
	}
}
