package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// kinds are chains that both sides run; %s is a directory for what they keep. Their master is the test host's interface uplink, whose
// other end is far away.
var kinds = []struct{ name, plugins string }{
	{"ptp", `{"type":"ptp","mtu":1400,"ipam":{"type":"host-local","dataDir":"%[1]s","ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"fd00:9::/64"}]],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`},
	{"ptp with static", `{"type":"ptp","ipam":{"type":"static","addresses":[{"address":"10.9.0.2/24","gateway":"10.9.0.1"}],
		"routes":[{"dst":"198.51.100.0/24"}]},"dns":{"nameservers":["10.9.0.53"]}}`},
	{"macvlan", `{"type":"macvlan","master":"uplink","mode":"private","mtu":1300,"mac":"02:00:00:00:00:77",
		"ipam":{"type":"host-local","dataDir":"%[1]s","subnet":"10.9.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}`},
	{"macvlan by the default route", `{"type":"macvlan","ipam":{"type":"static","addresses":[{"address":"10.9.0.2/24"},{"address":"fd00:9::2/64"}]}}`},
	{"ipvlan", `{"type":"ipvlan","master":"uplink","mode":"l3","ipam":{"type":"host-local","dataDir":"%[1]s","subnet":"10.9.0.0/24"}}`},
	{"vlan", `{"type":"vlan","master":"uplink","vlanId":7,"mtu":1300,"ipam":{"type":"host-local","dataDir":"%[1]s","subnet":"10.9.0.0/24"}}`},
	{"host-device", `{"type":"host-device","device":"spare","ipam":{"type":"host-local","dataDir":"%[1]s","subnet":"10.9.0.0/24"}}`},
	{"bandwidth", `{"type":"ptp","ipam":{"type":"host-local","dataDir":"%[1]s","subnet":"10.9.0.0/24"}},
		{"type":"bandwidth","ingressRate":8000000,"ingressBurst":800000,"egressRate":16000000,"egressBurst":1600000}`},
	{"tuning", `{"type":"ptp","ipam":{"type":"host-local","dataDir":"%[1]s","subnet":"10.9.0.0/24"}},
		{"type":"tuning","dataDir":"%[1]s/tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1","net.core.somaxconn":"512"},
		"mac":"02:00:00:00:00:78","mtu":1234,"promisc":true,"allmulti":true,"txQLen":77}`},
}

// TestRootTakeOverKinds holds berth's plugins and the reference ones against each other: each checks and releases what the other made,
// and what they make looks the same.
func TestRootTakeOverKinds(t *testing.T) {
	bin := referencePlugins(t)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			w := newWorld(t, nil)
			uplink(t, w.host)
			data := filepath.Join(w.dir, "leases")
			plugins := k.plugins
			if strings.Contains(plugins, "%[1]s") {
				plugins = fmt.Sprintf(plugins, data)
			}
			list, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion":"1.0.0","name":"net","plugins":[` + plugins + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := sides(w, bin, t.TempDir())
			looks := map[string]string{}
			for i, way := range [][2]side{{ours, theirs}, {theirs, ours}, {ours, ours}, {theirs, theirs}} {
				before := hostLooks(t, w.host)
				look := passOn(t, w, list, fmt.Sprintf("c%d", i), way, []side{ours, theirs})
				if old := looks[way[0].name]; old != "" && old != look {
					t.Errorf("%s look different now:\n%s\nand before:\n%s", way[0].name, look, old)
				}
				looks[way[0].name] = look
				w.fabric.reaper.Close() // at once, for the comparison
				if after := hostLooks(t, w.host); after != before {
					t.Errorf("%s, released by %s, left on the host:\n%s\nbefore:\n%s", way[0].name, way[1].name, after, before)
				}
				if left, _ := filepath.Glob(filepath.Join(data, "net/[1f]*")); len(left) > 0 {
					t.Errorf("leases left: %v", left)
				}
				if left, _ := os.ReadDir(filepath.Join(data, "tuning")); len(left) > 0 {
					t.Errorf("backups left: %v", left)
				}
			}
			if looks["ours"] != looks["theirs"] {
				t.Errorf("a pod of ours:\n%s\none of theirs:\n%s", looks["ours"], looks["theirs"])
			}
		})
	}
}

func sides(w *world, bin, cache string) (ours, theirs side) {
	return side{"ours", func(pod *link.Space) *libcni.CNIConfig {
			return libcni.NewCNIConfigWithCacheDir([]string{filepath.Join(bin, "none")}, cache, &executor{plugins: w.run.plugins, pod: pod})
		}}, side{"theirs", func(*link.Space) *libcni.CNIConfig {
			return libcni.NewCNIConfigWithCacheDir([]string{bin}, cache, nil)
		}}
}

// passOn has one side add a pod, all check it, and the other delete it. It returns how the pod looked.
func passOn(t *testing.T, w *world, list *libcni.NetworkConfigList, id string, way [2]side, checkers []side) string {
	t.Helper()
	ctx := context.Background()
	path, remove := linktest.Pod(t)
	defer remove()
	pod, err := link.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pod.Close() }()
	rt := &libcni.RuntimeConf{ContainerID: id, NetNS: path, IfName: "eth0", Args: [][2]string{{"IgnoreUnknown", "1"}}}
	r, err := way[0].cni(pod).AddNetworkList(ctx, list, rt)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("this kernel has no interfaces of this kind: %v", err)
	}
	if err != nil {
		t.Fatalf("add by %s: %v", way[0].name, err)
	}
	result, err := types100.NewResultFromResult(r)
	if err != nil {
		t.Fatal(err)
	}
	look := podLooks(t, w.host, pod, result)
	for _, s := range checkers {
		if err := s.cni(pod).CheckNetworkList(ctx, list, rt); err != nil {
			t.Errorf("check by %s of what %s made: %v", s.name, way[0].name, err)
		}
	}
	for range 2 { // a DEL may come again
		if err := way[1].cni(pod).DelNetworkList(ctx, list, rt); err != nil && way[1].name == "ours" {
			t.Fatalf("del by %s: %v", way[1].name, err)
		}
	}
	return look
}

// uplink gives the test's host two interfaces: uplink, with the default route, and spare.
func uplink(t *testing.T, host *link.Space) {
	t.Helper()
	path, _ := linktest.Pod(t)
	far := linktest.Open(t, path)
	for i, name := range []string{"uplink", "spare"} {
		v := link.Veth{Name: name, MAC: link.RandomMAC(), Pod: far, PodName: fmt.Sprintf("eth%d", i), PodMAC: link.RandomMAC()}
		if err := linktest.AddVeth(host, v); err != nil {
			t.Fatal(err)
		}
		if err := linktest.UpPort(host, name, link.Port{}); err != nil {
			t.Fatal(err)
		}
		index, err := far.Index(v.PodName)
		if err != nil {
			t.Fatal(err)
		}
		if err := linktest.Up(far, index); err != nil {
			t.Fatal(err)
		}
	}
	linktest.DefaultRoute(t, host, "uplink")
}

// uplinked gives the test's host a network that it is connected to by uplink.
func uplinked(t *testing.T, host *link.Space, address string) {
	t.Helper()
	uplink(t, host)
	index, err := host.Index("uplink")
	if err != nil {
		t.Fatal(err)
	}
	p := netip.MustParsePrefix(address)
	if err := host.DeleteAddress(index, netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	if err := linktest.AddAddress(host, index, p); err != nil {
		t.Fatal(err)
	}
}

// podLooks is what can be compared of two pods: the result, the interface, its routes, and what the host has for it, without what is random.
func podLooks(t *testing.T, host, pod *link.Space, r *types100.Result) string {
	t.Helper()
	var b strings.Builder
	for _, n := range r.Interfaces {
		fmt.Fprintf(&b, "result interface %s mac=%t sandbox=%t\n", plain(n.Name), n.Mac != "", n.Sandbox != "")
	}
	for _, ip := range r.IPs {
		ones, _ := ip.Address.Mask.Size()
		fmt.Fprintf(&b, "result ip /%d of %d gateway %s\n", ones, *ip.Interface, ip.Gateway)
	}
	for _, route := range r.Routes {
		fmt.Fprintf(&b, "result route %s via %s\n", route.Dst.String(), route.GW)
	}
	fmt.Fprintf(&b, "result dns %v\n", r.DNS)
	eth0, err := pod.Link("eth0")
	if err != nil || eth0 == nil {
		t.Fatal(err)
	}
	at := eth0.Attrs()
	fmt.Fprintf(&b, "eth0 %s mtu %d up %t alias %q promisc %d allmulti %d txqlen %d flags %x\n", eth0.Type(), at.MTU, at.Flags&1 != 0, at.Alias,
		at.Promisc, at.Allmulti, at.TxQLen, at.RawFlags)
	b.WriteString(routesOf(t, pod, eth0))
	for _, name := range []string{"net/ipv4/conf/eth0/arp_filter", "net/ipv4/conf/eth0/arp_notify", "net/core/somaxconn"} {
		v, err := pod.ReadSysctl(name)
		fmt.Fprintf(&b, "sysctl %s %s %v\n", name, v, err)
	}
	b.WriteString(hostLooks(t, host))
	return b.String()
}

func routesOf(t *testing.T, s *link.Space, l netlink.Link) string {
	t.Helper()
	routes, err := s.Netlink().RouteList(l, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range routes {
		if r.Dst != nil && link.Prefix(*r.Dst).Addr().IsLinkLocalUnicast() {
			continue
		}
		dst, src := "", ""
		if r.Dst != nil {
			dst = mask(r.Dst.String())
		}
		if r.Src != nil {
			src = "with a source"
		}
		lines = append(lines, fmt.Sprintf("route %s via %s scope %s metric %d %s\n", dst, r.Gw, r.Scope, r.Priority, src))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// mask hides which pod's address a route leads to.
func mask(dst string) string {
	if ip, _, ok := strings.Cut(dst, "/32"); ok && !strings.HasSuffix(ip, ".1") {
		return "POD"
	}
	if ip, _, ok := strings.Cut(dst, "/128"); ok && !strings.HasSuffix(ip, "::1") {
		return "POD"
	}
	return dst
}

func plain(name string) string {
	for _, p := range []string{"veth", "bwp"} {
		if strings.HasPrefix(name, p) {
			return p
		}
	}
	return name
}

// hostLooks are the host's interfaces, with their routes and limits.
func hostLooks(t *testing.T, host *link.Space) string {
	t.Helper()
	links, err := host.Netlink().LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range links {
		at := l.Attrs()
		line := fmt.Sprintf("host %s %s mtu %d up %t\n", plain(at.Name), l.Type(), at.MTU, at.Flags&1 != 0 || at.Name == "spare")
		line += routesOf(t, host, l)
		qdiscs, err := host.Netlink().QdiscList(l)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range qdiscs {
			switch q := q.(type) {
			case *netlink.Tbf:
				line += fmt.Sprintf("  tbf rate %d limit %d buffer %d\n", q.Rate, q.Limit, q.Buffer)
			case *netlink.Ingress:
				line += "  ingress\n"
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
