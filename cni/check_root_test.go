package cni

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

// attached is what a test of CHECK changes of a pod.
type attached struct {
	w          *world
	p          *pod
	eth0, port netlink.Link // of the pod and of the host
}

// in runs changes of the pod's interface, one after the other.
func (a attached) in(changes ...func(h *netlink.Handle, l netlink.Link) error) error {
	for _, change := range changes {
		if err := change(a.p.space.Netlink(), a.eth0); err != nil {
			return err
		}
	}
	return nil
}

// route is one of the pod's to dst, by the bridge.
func (a attached) route(dst string) *netlink.Route {
	return &netlink.Route{LinkIndex: a.eth0.Attrs().Index, Dst: link.IPNet(netip.MustParsePrefix(dst)), Gw: net.IPv4(10, 9, 0, 1)}
}

// differences are changes of what each plugin made, and what CHECK is to say of them.
var differences = []struct {
	change func(a attached) error
	want   []string
}{
	{func(a attached) error { return a.w.host.DeleteAt(a.port.Attrs().Index) }, []string{"bridge", "eth0", "no veth"}},
	{func(a attached) error { return a.w.host.Netlink().LinkSetNoMaster(a.port) }, []string{"bridge", "no port of br-check"}},
	{func(a attached) error { return a.w.fabric.guard.Release(plugin.Owner(a.p.ID, "eth0")) }, []string{"bridge", "not held to its MAC"}},
	{func(a attached) error {
		return a.p.space.DeleteAddress(a.eth0.Attrs().Index, netip.PrefixFrom(a.p.IPs[0], 24))
	}, []string{"bridge", "no address"}},
	{func(a attached) error { return a.p.space.Netlink().RouteDel(a.route("198.51.100.0/24")) }, []string{"bridge", "no route to 198.51.100.0/24"}},
	{func(a attached) error {
		r := a.route("0.0.0.0/0")
		r.Gw = net.IPv4(10, 9, 0, 254)
		return a.p.space.Netlink().RouteReplace(r)
	}, []string{"bridge", "no route to 0.0.0.0/0"}},
	{func(a attached) error {
		return a.in(func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetMTU(l, 1300) })
	}, []string{"tuning", "MTU 1300"}},
	{func(a attached) error {
		return a.in(func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetTxQLen(l, 5) })
	}, []string{"tuning", "transmit queue", "5"}},
	{func(a attached) error { return a.in((*netlink.Handle).SetPromiscOff) }, []string{"tuning", "promiscuous"}},
	{func(a attached) error { return a.in((*netlink.Handle).LinkSetAllmulticastOff) }, []string{"tuning", "all-multicast"}},
	{func(a attached) error {
		return a.p.space.SetSysctls("net/ipv4/conf/eth0", link.Sysctl{Name: "arp_filter", Value: "0"})
	}, []string{"tuning", "arp_filter", "it is 0, was 1"}},
	{func(a attached) error {
		return a.w.host.Netlink().QdiscDel(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: a.port.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT,
		}})
	}, []string{"bandwidth", hostEnd}},
	{func(a attached) error {
		return a.w.fabric.filter.Keep(map[string]bool{})
	}, []string{"firewall", "does not let it through"}},
	{func(a attached) error { return a.w.fabric.tables.Release("net", plugin.Owner(a.p.ID, "eth0")) }, []string{"portmap", "8080/tcp", "not published"}},
}

// TestRootCheckFindsEveryDifference changes what each plugin of a chain made, one thing a pod. CHECK is silent before, and says what it is.
func TestRootCheckFindsEveryDifference(t *testing.T) {
	w := newWorld(t, nil)
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[
		{"type":"bridge","bridge":"br-check","isDefaultGateway":true,"macspoofchk":true,
		 "ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"`+w.dir+`/leases","routes":[{"dst":"198.51.100.0/24"}]}},
		{"type":"tuning","dataDir":"`+w.dir+`/tuning","mtu":1400,"promisc":true,"allmulti":true,"txQLen":77,
		 "sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}},
		{"type":"bandwidth","ingressRate":8000000,"ingressBurst":8000000,"egressRate":8000000,"egressBurst":8000000},
		{"type":"firewall"},
		{"type":"portmap","capabilities":{"portMappings":true}}]}`)
	for _, c := range differences {
		t.Run(strings.Join(c.want, " "), func(t *testing.T) {
			p := w.pod(t, "p", PortMapping{HostPort: 8080, ContainerPort: 80})
			a := attached{w: w, p: p}
			var err error
			if a.eth0, err = p.space.Link("eth0"); err != nil || a.eth0 == nil {
				t.Fatal(a.eth0, err)
			}
			if a.port, err = w.host.LinkAt(a.eth0.Attrs().ParentIndex); err != nil || a.port == nil {
				t.Fatal(a.port, err)
			}
			if err := w.Check(context.Background(), p.Attachment); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := c.change(a); err != nil {
				t.Fatal(err)
			}
			err = w.Check(context.Background(), p.Attachment)
			for _, word := range c.want {
				if err == nil || !strings.Contains(err.Error(), strings.Replace(word, hostEnd, a.port.Attrs().Name, 1)) {
					t.Errorf("%v does not say %s", err, word)
				}
			}
			// And what is half gone is released like anything else, as often as anybody likes.
			w.del(t, p.Attachment)
			w.del(t, p.Attachment)
			w.rolledBack(t, p.space, "br-check")
			p.remove()
		})
	}
}

// hostEnd stands for the name of the host's end.
const hostEnd = "PORT"
