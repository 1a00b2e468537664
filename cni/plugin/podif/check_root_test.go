package podif_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// TestRootCheck holds an interface against results that differ from it in one thing each.
func TestRootCheck(t *testing.T) {
	host := linktest.Host(t)
	pod, mac := linktest.Joined(t, host, "v0")
	result := func(change func(*types100.Result)) *types100.Result {
		zero, table := 0, 300
		elsewhere := route("192.0.2.0/24", "10.0.0.1")
		elsewhere.Table = &table
		r := &types100.Result{
			Interfaces: []*types100.Interface{{Name: "eth0", Mac: mac.String(), Sandbox: "x"}, {Name: "v0", Mac: "02:00:00:00:00:01"}},
			IPs:        []*types100.IPConfig{{Address: address("10.0.0.2/24"), Interface: &zero}, {Address: address("fd00::2/64")}},
			Routes:     []*types.Route{route("0.0.0.0/0", "10.0.0.1"), route("198.51.100.0/24", ""), elsewhere},
		}
		change(r)
		return r
	}
	on := podif.Interface{Pod: pod, Name: "eth0", Sysctls: &link.Sysctls{}}
	t.Cleanup(on.Sysctls.Close)
	if err := on.Configure(result(func(*types100.Result) {})); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*types100.Result){
		"":                            func(*types100.Result) {},
		"MAC address " + mac.String(): func(r *types100.Result) { r.Interfaces[0].Mac = "02:00:00:00:00:02" },
		"no address 10.0.0.3/24":      func(r *types100.Result) { r.IPs[0].Address = address("10.0.0.3/24") },
		"no address fd00::2/48":       func(r *types100.Result) { r.IPs[1].Address = address("fd00::2/48") },
		"no route to 203.0.113.0/24":  func(r *types100.Result) { r.Routes = append(r.Routes, route("203.0.113.0/24", "")) },
		"no route to 0.0.0.0/0":       func(r *types100.Result) { r.Routes[0] = route("0.0.0.0/0", "10.0.0.9") },
		"no route to 198.51.100.0/24": func(r *types100.Result) { r.Routes[1] = route("198.51.100.0/24", "10.0.0.9") },
	} {
		err := podif.Check(pod, "eth0", result(change))
		if want == "" && err != nil || want != "" && (!errors.Is(err, podif.ErrChanged) || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	// What is of another interface, or in another table, is none of its business.
	one := 1
	other := result(func(r *types100.Result) {
		r.IPs = append(r.IPs, &types100.IPConfig{Address: address("10.7.0.1/24"), Interface: &one})
		table := 301
		r.Routes = append(r.Routes, &types.Route{Dst: *link.IPNet(netip.MustParsePrefix("203.0.113.0/24")), Table: &table})
	})
	if err := podif.Check(pod, "eth0", other); err != nil {
		t.Error(err)
	}
	l, err := pod.Link("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := pod.Netlink().LinkDel(l.(*netlink.Veth)); err != nil {
		t.Fatal(err)
	}
	if err := podif.Check(pod, "eth0", other); !errors.Is(err, podif.ErrChanged) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("got %v", err)
	}
}
