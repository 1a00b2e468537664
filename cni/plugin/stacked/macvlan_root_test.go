package stacked

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// TestRootMacvlan makes macvlans on a host of its own; that they are as the reference plugin's is tested in package cni.
func TestRootMacvlan(t *testing.T) {
	b, ctx := newBed(t, Macvlan), t.Context()
	if _, err := b.Add(ctx, b.call("")); !errors.Is(err, ErrNoMaster) {
		t.Errorf("without a default route: %v", err)
	}
	linktest.Joined(t, b.host, "uplink")
	if err := linktest.UpPort(b.host, "uplink", link.Port{}); err != nil {
		t.Fatal(err)
	}
	for conf, want := range map[string]string{`,"master":"none"`: "master: none", `,"master":"uplink","mtu":1501`: "mtu: 1501"} {
		if _, err := b.Add(ctx, b.call(conf)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", conf, err)
		}
	}
	// On layer 2 only, with the default route's interface as master.
	linktest.DefaultRoute(t, b.host, "uplink")
	c := b.call(`,"mode":"private","runtimeConfig":{"mac":"02:00:00:00:00:09"}`)
	r, err := b.Add(ctx, c)
	if err != nil || len(r.IPs) != 0 || r.Interfaces[0].Mac != "02:00:00:00:00:09" {
		t.Fatalf("%+v, %v", r, err)
	}
	if l, err := c.Pod.Link("eth0"); err != nil || l.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("it is not up: %v, %v", l, err)
	}
	if _, err := b.Add(ctx, c); err == nil {
		t.Error("a second of the name")
	}
	// In the container, on an interface that is there.
	const keys, result = `,"master":"eth0","linkInContainer":true,"ipam":{"type":"test"}`, `,"prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}`
	inside := b.call(keys)
	inside.IfName, inside.Pod, inside.NetNS = "net1", c.Pod, c.NetNS
	if r, err = b.Add(ctx, inside); err != nil || r.IPs[0].Address.String() != "10.0.0.2/24" {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := b.Check(ctx, with(inside, keys+result)); err != nil {
		t.Error(err)
	}
	if err := b.Check(ctx, with(inside, `,"mode":"vepa"`+keys+result)); !errors.Is(err, podif.ErrChanged) {
		t.Errorf("another mode: %v", err)
	}
	for range 2 {
		if err := errors.Join(b.Del(ctx, inside), b.Del(ctx, c)); err != nil {
			t.Error(err)
		}
	}
	if l, err := c.Pod.Link("eth0"); err != nil || l != nil {
		t.Errorf("left %v, %v", l, err)
	}
	if err := errors.Join(b.Status(ctx, c), b.GC(ctx, c, nil)); err != nil {
		t.Error(err)
	}
}
