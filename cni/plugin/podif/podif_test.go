package podif_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

func address(s string) net.IPNet {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return net.IPNet{IP: ip, Mask: n.Mask}
}

func route(s, gw string) *types.Route {
	return &types.Route{Dst: address(s), GW: net.ParseIP(gw)}
}

func TestRoutesTakeTheGatewayOfTheirFamily(t *testing.T) {
	table := 7
	own := route("10.9.0.0/16", "10.0.0.9")
	own.Table, own.MTU, own.AdvMSS, own.Priority = &table, 1300, 1200, 5
	got := podif.Routes(&types100.Result{
		IPs: []*types100.IPConfig{
			{Address: address("fd00::2/64"), Gateway: net.ParseIP("fd00::1")}, {Address: address("10.0.0.2/24"), Gateway: net.ParseIP("10.0.0.1")},
		},
		Routes: []*types.Route{route("0.0.0.0/0", ""), route("::/0", ""), own},
	})
	want := []link.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gw: netip.MustParseAddr("10.0.0.1")},
		{Dst: netip.MustParsePrefix("::/0"), Gw: netip.MustParseAddr("fd00::1")},
		{Dst: netip.MustParsePrefix("10.9.0.0/16"), Gw: netip.MustParseAddr("10.0.0.9"), Table: 7, MTU: 1300, AdvMSS: 1200, Priority: 5},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestAddressesRefusesWhatIsNone(t *testing.T) {
	if _, err := podif.Addresses(&types100.Result{IPs: []*types100.IPConfig{{}}}); err == nil {
		t.Error("no address is taken for one")
	}
}

// TestRootConfigure also proves that the addresses can be asked for when Reachable returns.
func TestRootConfigure(t *testing.T) {
	host := linktest.Host(t)
	pod, _ := linktest.Joined(t, host, "v0")
	if err := linktest.UpPort(host, "v0", link.Port{}); err != nil {
		t.Fatal(err)
	}
	if err := pod.SetSysctls("net/ipv6/conf/eth0", link.Sysctl{Name: "disable_ipv6", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	table := 300
	other := route("10.9.0.0/16", "")
	other.Table, other.MTU = &table, 1300
	result := &types100.Result{
		IPs: []*types100.IPConfig{
			{Address: address("10.0.0.2/24"), Gateway: net.ParseIP("10.0.0.1")}, {Address: address("fd00::2/64"), Gateway: net.ParseIP("fd00::1")},
		},
		Routes: []*types.Route{route("0.0.0.0/0", ""), route("::/0", ""), other},
	}
	on := podif.Interface{Pod: pod, Name: "eth0", Sysctls: &link.Sysctls{}}
	t.Cleanup(on.Sysctls.Close)
	if err := on.Configure(result); err != nil {
		t.Fatal(err)
	}
	index, err := pod.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	podif.Reachable(context.Background(), pod, "eth0", []netip.Addr{netip.MustParseAddr("fd00::2")})
	groups, err := pod.Groups6(index)
	if err != nil || !slices.Contains(groups[index], netip.MustParseAddr("ff02::1:ff00:2")) {
		t.Errorf("groups %v, %v", groups, err)
	}
	if err := podif.Check(pod, "eth0", result); err != nil {
		t.Error(err)
	}
	if err := pod.DeleteAddress(index, netip.MustParsePrefix("fd00::2/64")); err != nil {
		t.Fatal(err)
	}
	if err := podif.Check(pod, "eth0", result); err == nil {
		t.Error("an address that is gone is not missed")
	}
}

// TestRootReachableKnowsWhenNotToWait: no group is joined by lo, for another's address, or by an interface that is not there.
func TestRootReachableKnowsWhenNotToWait(t *testing.T) {
	host := linktest.Host(t)
	pod, _ := linktest.Joined(t, host, "v0")
	if err := linktest.AddAddress(pod, 1, netip.MustParsePrefix("fd00::2/64")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, name := range []string{"lo", "eth0", "none"} {
		podif.Reachable(t.Context(), pod, name, []netip.Addr{netip.MustParseAddr("fd00::2"), netip.MustParseAddr("10.0.0.2")})
	}
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("waited for %s", took)
	}
}

func TestRootConfigureSaysWhatFailed(t *testing.T) {
	linktest.Host(t)
	path, _ := linktest.Pod(t)
	pod := linktest.Open(t, path)
	on := podif.Interface{Pod: pod, Name: "eth0", Sysctls: &link.Sysctls{}}
	t.Cleanup(on.Sysctls.Close)
	if err := on.Configure(&types100.Result{}); err == nil {
		t.Error("an interface that is not there is configured")
	}
	if err := on.Expect(); err == nil {
		t.Error("an interface that is not there is brought up")
	}
	on.Name = "lo"
	err := on.Configure(&types100.Result{
		IPs: []*types100.IPConfig{{Address: address("10.0.0.2/24")}}, Routes: []*types.Route{route("10.9.0.0/16", "192.0.2.1")},
	})
	if want := "interface lo: add route to 10.9.0.0/16 via 192.0.2.1: network is unreachable"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
