package stacked

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// TestRootMacvlan makes macvlans on a host of its own; that they are as the reference plugin's is tested in package cni.
func TestRootMacvlan(t *testing.T) {
	host, ctx := linktest.Host(t), context.Background()
	sysctls := &link.Sysctls{}
	t.Cleanup(sysctls.Close)
	p := New(Macvlan, host, sysctls)
	call := func(conf string) *plugin.Call {
		path, _ := linktest.Pod(t)
		return &plugin.Call{
			Container: "c", IfName: "eth0", NetNS: path, Pod: linktest.Open(t, path), Config: []byte(`{"cniVersion":"1.0.0","name":"net"` + conf + `}`),
			IPAM: func(context.Context, string, string) (*types100.Result, error) {
				return &types100.Result{IPs: []*types100.IPConfig{{Address: net.IPNet{IP: net.IPv4(10, 0, 0, 2), Mask: net.CIDRMask(24, 32)}}}}, nil
			},
		}
	}
	if _, err := p.Add(ctx, call("")); !errors.Is(err, ErrNoMaster) {
		t.Errorf("without a default route: %v", err)
	}
	far := linktest.Open(t, func() string { path, _ := linktest.Pod(t); return path }())
	if err := linktest.AddVeth(host, link.Veth{Name: "uplink", MAC: link.RandomMAC(), Pod: far, PodName: "far", PodMAC: link.RandomMAC(), MTU: 1400}); err != nil {
		t.Fatal(err)
	}
	if err := linktest.UpPort(host, "uplink", link.Port{}); err != nil {
		t.Fatal(err)
	}
	for conf, want := range map[string]string{`,"master":"none"`: "master: none", `,"master":"uplink","mtu":1500`: "mtu: 1500"} {
		if _, err := p.Add(ctx, call(conf)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", conf, err)
		}
	}
	// On layer 2 only, with the default route's interface as master.
	linktest.DefaultRoute(t, host, "uplink")
	c := call(`,"mode":"private","runtimeConfig":{"mac":"02:00:00:00:00:09"}`)
	r, err := p.Add(ctx, c)
	if err != nil || len(r.IPs) != 0 || r.Interfaces[0].Mac != "02:00:00:00:00:09" {
		t.Fatalf("%+v, %v", r, err)
	}
	if l, err := c.Pod.Link("eth0"); err != nil || l.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("it is not up: %v, %v", l, err)
	}
	if _, err := p.Add(ctx, c); err == nil {
		t.Error("a second of the name")
	}
	// In the container, on an interface that is there.
	inside := call(`,"master":"eth0","linkInContainer":true,"ipam":{"type":"test"}`)
	inside.IfName, inside.Pod, inside.NetNS = "net1", c.Pod, c.NetNS
	if r, err = p.Add(ctx, inside); err != nil || r.IPs[0].Address.String() != "10.0.0.2/24" {
		t.Fatalf("%+v, %v", r, err)
	}
	inside.Config = []byte(strings.TrimSuffix(string(inside.Config), "}") + `,"prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}}`)
	if err := p.Check(ctx, inside); err != nil {
		t.Error(err)
	}
	inside.Config = []byte(strings.Replace(string(inside.Config), `"master"`, `"mode":"vepa","master"`, 1))
	if err := p.Check(ctx, inside); !errors.Is(err, podif.ErrChanged) {
		t.Errorf("another mode: %v", err)
	}
	for range 2 {
		if err := errors.Join(p.Del(ctx, inside), p.Del(ctx, c)); err != nil {
			t.Error(err)
		}
	}
	if l, err := c.Pod.Link("eth0"); err != nil || l != nil {
		t.Errorf("left %v, %v", l, err)
	}
	if err := errors.Join(p.Status(ctx, c), p.GC(ctx, c, nil)); err != nil {
		t.Error(err)
	}
}
