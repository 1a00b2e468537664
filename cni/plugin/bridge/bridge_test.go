package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

func TestParseMistakesNameTheKey(t *testing.T) {
	for conf, key := range map[string]string{
		`"bridge":""`:                                          "bridge",
		`"bridge":"a-name-of-16-byt"`:                          "bridge",
		`"vlan":4095`:                                          "vlan",
		`"mtu":-1`:                                             "mtu",
		`"isGateway":"yes"`:                                    "isGateway",
		`"hairpinMode":true,"promiscMode":true`:                "promiscMode",
		`"ipMasqBackend":"ebpf"`:                               "ipMasqBackend",
		`"runtimeConfig":{"mac":"x"}`:                          "runtimeConfig.mac",
		`"args":{"cni":{"mac":"x"}}`:                           "args.cni.mac",
		`"vlanTrunk":[{"minID":5}]`:                            "vlanTrunk",
		`"vlanTrunk":[{"minID":5,"maxID":4}]`:                  "vlanTrunk",
		`"vlanTrunk":[{"id":0}]`:                               "vlanTrunk",
		`"ipam":{"type":"x"},"disableContainerInterface":true`: "disableContainerInterface",
	} {
		_, err := parse(&plugin.Call{Config: []byte("{" + conf + "}")})
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != key {
			t.Errorf("%s: %v", conf, err)
		}
	}
}

func TestParse(t *testing.T) {
	conf, err := parse(&plugin.Call{
		Args:   "IgnoreUnknown=1;MAC=02:00:00:00:00:01",
		Config: []byte(`{"isDefaultGateway":true,"vlanTrunk":[{"minID":5,"maxID":7},{"id":6},{"id":3}],"runtimeConfig":{"mac":"02:00:00:00:00:02"}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if conf.Bridge != "cni0" || !conf.IsGateway || conf.mac.String() != "02:00:00:00:00:02" || fmt.Sprint(conf.trunks) != "[3 5 6 7]" {
		t.Errorf("%+v", conf)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"bridge":"x","vlanTrunk":[{"minID":1,"maxID":4094}],"runtimeConfig":{"mac":"02:00:00:00:00:02"}}`), "MAC=x")
	f.Add([]byte(`{"vlanTrunk":[{"minID":null,"maxID":4094}]}`), ";;=")
	f.Fuzz(func(t *testing.T, data []byte, args string) {
		conf, err := parse(&plugin.Call{Config: data, Args: args})
		if err == nil && (len(conf.Bridge) > 15 || len(conf.trunks) > maxVLAN) {
			t.Fatalf("%+v", conf)
		}
	})
}

func TestAddGateways(t *testing.T) {
	address := func(s string) net.IPNet {
		ip, n, _ := net.ParseCIDR(s)
		return net.IPNet{IP: ip, Mask: n.Mask}
	}
	result := &types100.Result{IPs: []*types100.IPConfig{
		{Address: address("10.0.0.5/24")}, {Address: address("10.1.0.5/24"), Gateway: net.ParseIP("10.1.0.9")}, {Address: address("fd00::5/64")},
	}}
	got := addGateways(&config{IsGateway: true, IsDefaultGateway: true}, result)
	if fmt.Sprint(got) != "[10.0.0.1/24 10.1.0.9/24 fd00::1/64]" {
		t.Errorf("gateways %v", got)
	}
	var routes []string
	for _, r := range result.Routes {
		routes = append(routes, r.Dst.String()+" "+r.GW.String())
	}
	if strings.Join(routes, ", ") != "0.0.0.0/0 10.0.0.1, ::/0 fd00::1" {
		t.Errorf("routes %v", routes)
	}
	if got := addGateways(&config{}, &types100.Result{IPs: []*types100.IPConfig{{Address: address("10.0.0.5/24")}}}); len(got) > 0 {
		t.Errorf("a bridge that is no gateway has %v", got)
	}
}

// bed is the plugin on a host of its own, with an IPAM plugin that gives what the test says.
type bed struct {
	*Plugin
	t    *testing.T
	host *link.Space
	ips  []string
}

func newBed(t *testing.T) *bed {
	host := linktest.Host(t)
	tables, guard := nft.New(host.FD(), "berth-test"), nft.NewGuard(host.FD(), "berth-test")
	reports := nft.NewReports(host.FD(), "berth-test")
	reaper := link.NewReaper(host, time.Hour)
	t.Cleanup(func() { reaper.Close(); _ = tables.Close(); _ = guard.Close(); _ = reports.Close() })
	return &bed{Plugin: New(host, tables, guard, reports, reaper), t: t, host: host}
}

func (b *bed) call(id, conf string) *plugin.Call {
	path, _ := linktest.Pod(b.t)
	return &plugin.Call{
		Container: id, IfName: "eth0", NetNS: path, Pod: linktest.Open(b.t, path), Config: []byte(`{"name":"net",` + conf + `}`),
		IPAM: func(context.Context, string, string) (*types100.Result, error) {
			r := &types100.Result{}
			for _, s := range b.ips {
				r.IPs = append(r.IPs, &types100.IPConfig{Address: *link.IPNet(netip.MustParsePrefix(s))})
			}
			return r, nil
		},
	}
}

func (b *bed) add(c *plugin.Call) *types100.Result {
	b.t.Helper()
	r, err := b.Add(context.Background(), c)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// port is the host's end of a container's pair.
func (b *bed) port(c *plugin.Call) netlink.Link {
	b.t.Helper()
	l, err := c.Pod.Link("eth0")
	if err != nil || l == nil {
		b.t.Fatalf("%v, %v", l, err)
	}
	port, err := b.host.LinkAt(l.Attrs().ParentIndex)
	if err != nil || port == nil {
		b.t.Fatalf("%v, %v", port, err)
	}
	return port
}

func TestRootPortFlags(t *testing.T) {
	b := newBed(t)
	b.ips = []string{"10.0.0.2/24"}
	c := b.call("a", `"hairpinMode":true,"portIsolation":true,"mtu":1300,"ipam":{"type":"x"},"runtimeConfig":{"mac":"02:00:00:00:00:07"}`)
	r := b.add(c)
	port := b.port(c)
	info, err := b.host.Netlink().LinkGetProtinfo(port)
	if err != nil || !info.Hairpin || !info.Isolated {
		t.Errorf("%+v, %v", info, err)
	}
	if port.Attrs().MTU != 1300 || r.Interfaces[2].Mac != "02:00:00:00:00:07" || r.Interfaces[1].Mac != port.Attrs().HardwareAddr.String() {
		t.Errorf("%+v, %+v", port.Attrs(), r.Interfaces[2])
	}
	eth0, _ := c.Pod.Link("eth0")
	if eth0.Attrs().HardwareAddr.String() != "02:00:00:00:00:07" {
		t.Errorf("MAC %s", eth0.Attrs().HardwareAddr)
	}
	br, _ := b.host.Link("cni0")
	if r.Interfaces[0].Mac != br.Attrs().HardwareAddr.String() {
		t.Errorf("the bridge's MAC address is %s, the result's %s", br.Attrs().HardwareAddr, r.Interfaces[0].Mac)
	}
}

func TestRootLayer2(t *testing.T) {
	b := newBed(t)
	r := b.add(b.call("a", `"promiscMode":true`))
	if len(r.IPs) > 0 || len(r.Interfaces) != 3 {
		t.Errorf("%+v", r)
	}
	br, _ := b.host.Link("cni0")
	if br.Attrs().Promisc == 0 {
		t.Error("the bridge is not promiscuous")
	}
	c := b.call("b", `"disableContainerInterface":true`)
	b.add(c)
	l, _ := c.Pod.Link("eth0")
	if l.Attrs().Flags&net.FlagUp != 0 {
		t.Error("the container's interface is up")
	}
}

func TestRootNoAddressFromIPAM(t *testing.T) {
	b := newBed(t)
	if _, err := b.Add(context.Background(), b.call("a", `"ipam":{"type":"x"}`)); !errors.Is(err, plugin.ErrNoAddress) {
		t.Errorf("got %v", err)
	}
}

func TestRootGatewayAddress(t *testing.T) {
	b := newBed(t)
	conf := `"isGateway":true,"ipam":{"type":"x"}`
	b.ips = []string{"10.0.0.2/24", "fd00::2/64"}
	b.add(b.call("a", conf))
	b.ips = []string{"10.1.0.2/24"}
	if _, err := b.Add(context.Background(), b.call("b", conf)); !errors.Is(err, ErrOtherSubnet) {
		t.Errorf("another subnet: %v", err)
	}
	b.ips = []string{"fd00:1::2/64"}
	b.add(b.call("c", conf))
	b.ips = []string{"10.1.0.2/24"}
	b.add(b.call("d", `"forceAddress":true,`+conf))
	if list := b.addresses(); len(list) != 3 || list[0] != "10.1.0.1/24" {
		t.Errorf("addresses %v", list)
	}
}

func TestRootVLAN(t *testing.T) {
	b := newBed(t)
	b.ips = []string{"10.0.0.2/24"}
	c := b.call("a", `"vlan":100,"vlanTrunk":[{"id":200}],"isGateway":true,"ipam":{"type":"x"}`)
	r, err := b.Add(context.Background(), c)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("the kernel has no CONFIG_BRIDGE_VLAN_FILTERING")
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Interfaces) != 4 || r.Interfaces[3].Name != "cni0.100" {
		t.Fatalf("%+v", r.Interfaces)
	}
	list, err := b.host.Netlink().BridgeVlanList()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range list[int32(b.port(c).Attrs().Index)] {
		got = append(got, fmt.Sprintf("%d untagged=%t", v.Vid, v.EngressUntag()))
	}
	if strings.Join(got, ", ") != "100 untagged=true, 200 untagged=false" {
		t.Errorf("VLANs %v", got)
	}
	gw, _ := b.host.Link("cni0.100")
	have, err := b.host.Addresses(gw.Attrs().Index)
	if err != nil || len(have) == 0 || have[0].Prefix.String() != "10.0.0.1/24" {
		t.Errorf("%v, %v", have, err)
	}
	linktest.In(t, c.Pod, func() error {
		conn, err := net.DialTimeout("tcp", "10.0.0.1:1", time.Second)
		if err == nil {
			_ = conn.Close()
		} else if strings.Contains(err.Error(), "refused") {
			err = nil // somebody is there to refuse
		}
		return err
	})
	b.add(b.call("b", `"vlan":100,"ipam":{"type":"x"}`))
}

func TestRootDuplicateAddressDetection(t *testing.T) {
	b := newBed(t)
	b.ips = []string{"fd00::2/64"}
	b.add(b.call("a", `"isGateway":true,"ipam":{"type":"x"}`))
	b.ips = []string{"fd00::3/64"}
	c := b.call("b", `"enabledad":true,"ipam":{"type":"x"}`)
	start := time.Now()
	b.add(c)
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("the detection took %s", took)
	}
}

func TestRootIPv6OffInNewNamespaces(t *testing.T) {
	b := newBed(t)
	b.ips = []string{"fd00::2/64"}
	c := b.call("a", `"isGateway":true,"ipam":{"type":"x"}`)
	for _, folder := range []string{"net/ipv6/conf/default", "net/ipv6/conf/all"} {
		if err := c.Pod.SetSysctls(folder, link.Sysctl{Name: "disable_ipv6", Value: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	b.add(c)
	eth0, _ := c.Pod.Link("eth0")
	have, err := c.Pod.Addresses(eth0.Attrs().Index)
	if err != nil || len(have) == 0 {
		t.Errorf("%v, %v", have, err)
	}
}

func TestRootForwardingKeepsHearingRouters(t *testing.T) {
	b := newBed(t)
	read := func(name string) string {
		v, err := b.host.ReadSysctl(name)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if err := b.host.SetSysctls("net/ipv6/conf/lo", link.Sysctl{Name: "accept_ra", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	b.ips = []string{"fd00::2/64", "10.0.0.2/24"}
	b.add(b.call("a", `"isGateway":true,"ipam":{"type":"x"}`))
	if read("net/ipv6/conf/all/forwarding") != "1" || read("net/ipv4/ip_forward") != "1" {
		t.Error("the host does not forward")
	}
	if got := read("net/ipv6/conf/lo/accept_ra"); got != "2" {
		t.Errorf("accept_ra of the host is %s", got)
	}
	if got := read("net/ipv6/conf/cni0/accept_ra"); got != "0" {
		t.Errorf("accept_ra of the bridge is %s", got)
	}
}

func TestRootOwner(t *testing.T) {
	b := newBed(t)
	conf := func(owner string) string { return `"bridge":"br-own","berthOwner":"` + owner + `"` }
	b.add(b.call("a", conf("/a")))
	b.add(b.call("b", conf("/a")))
	if _, err := b.Add(context.Background(), b.call("c", conf("/b"))); !errors.Is(err, ErrOtherOwner) {
		t.Errorf("got %v", err)
	}
	if err := b.Remove("br-own", "/b"); err != nil {
		t.Fatal(err)
	}
	if l, _ := b.host.Link("br-own"); l == nil {
		t.Error("removed by a stranger")
	}
	for range 2 {
		if err := b.Remove("br-own", "/a"); err != nil {
			t.Fatal(err)
		}
	}
	// Killed between making a bridge and naming it.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br-own"
	if err := b.host.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	b.add(b.call("d", conf("/a")))
	if l, _ := b.host.Link("br-own"); l.Attrs().Alias != "/a" {
		t.Errorf("alias %q", l.Attrs().Alias)
	}
}

func TestRootExistingInterfaceIsNotTouched(t *testing.T) {
	b := newBed(t)
	c := b.call("a", `"bridge":"br0"`)
	b.add(c)
	if _, err := b.Add(context.Background(), c); !errors.Is(err, podif.ErrExists) {
		t.Errorf("got %v", err)
	}
}
