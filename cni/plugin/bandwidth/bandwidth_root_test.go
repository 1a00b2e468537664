package bandwidth

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

const both = `"ingressRate":8000000,"ingressBurst":800000,"egressRate":16000000,"egressBurst":800000`

func newPlugin(t *testing.T) (*Plugin, *link.Space) {
	host := linktest.Host(t)
	reaper := link.NewReaper(host, 10*time.Millisecond)
	t.Cleanup(reaper.Close)
	return New(host, reaper), host
}

// call is one for a container that is joined to the host by the pair end.
func call(t *testing.T, host *link.Space, container, end, limits string) *plugin.Call {
	path, _ := linktest.Pod(t)
	pod := linktest.Open(t, path)
	if err := linktest.AddVeth(host, link.Veth{Name: end, MAC: link.RandomMAC(), Pod: pod, PodName: "eth0", PodMAC: link.RandomMAC()}); err != nil {
		t.Fatal(err)
	}
	return &plugin.Call{Container: container, IfName: "eth0", NetNS: path, Pod: pod, Config: fmt.Appendf(nil,
		`{"cniVersion":"1.0.0","name":"net",%s,"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"%s"},{"name":"eth0","sandbox":"%s"}]}}`, limits, end, path)}
}

func TestRootCheckMissesWhatIsGone(t *testing.T) {
	p, host := newPlugin(t)
	ctx := context.Background()
	c := call(t, host, "c", "v0", both)
	if _, err := p.Add(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(ctx, c); err != nil {
		t.Fatal(err)
	}
	other := *c
	other.Config = []byte(`{"ingressRate":7000000,"ingressBurst":800000,` + string(c.Config[1:]))
	if err := p.Check(ctx, &other); err != nil {
		t.Errorf("the last of two keys counts: %v", err)
	}
	end, _ := host.Link("v0")
	if err := host.Netlink().QdiscDel(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: end.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT,
	}}); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(ctx, c); !errors.Is(err, podif.ErrChanged) {
		t.Errorf("without the limit: %v", err)
	}
	for range 2 {
		if err := p.Del(ctx, c); err != nil {
			t.Error(err)
		}
	}
}

// TestRootAgain limits a container anew whose ifb is still waiting for the reaper.
func TestRootAgain(t *testing.T) {
	host := linktest.Host(t)
	reaper := link.NewReaper(host, time.Hour)
	t.Cleanup(reaper.Close)
	p, ctx := New(host, reaper), context.Background()
	c := call(t, host, "c", "v0", `"egressRate":16000000,"egressBurst":800000`)
	if _, err := p.Add(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Add(ctx, c); !errors.Is(err, podif.ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	if err := p.Del(ctx, c); err != nil {
		t.Fatal(err)
	}
	next := call(t, host, "c", "v1", `"egressRate":16000000,"egressBurst":800000`)
	if _, err := p.Add(ctx, next); err != nil {
		t.Errorf("after the DEL: %v", err)
	}
}

func TestRootNoPeer(t *testing.T) {
	p, host := newPlugin(t)
	c := call(t, host, "c", "v0", both)
	c.IfName = "lo"
	if _, err := p.Add(context.Background(), c); !errors.Is(err, ErrNoPeer) {
		t.Errorf("an interface that is no veth: %v", err)
	}
	c.IfName = "eth0"
	c.Config = []byte(`{"cniVersion":"1.0.0","name":"net",` + both + `,"prevResult":{"cniVersion":"1.0.0"}}`)
	if _, err := p.Add(context.Background(), c); !errors.Is(err, ErrNoPeer) {
		t.Errorf("a veth of nobody's: %v", err)
	}
	c.Config = []byte(`{"cniVersion":"1.0.0","name":"net",` + both + `}`)
	if _, err := p.Add(context.Background(), c); err == nil {
		t.Error("first in the chain")
	}
}

// TestRootGC collects the ifb of a container that is gone, and neither that of one that is valid nor one that another network's container
// sends by.
func TestRootGC(t *testing.T) {
	p, host := newPlugin(t)
	ctx := context.Background()
	valid, used := call(t, host, "valid", "v0", both), call(t, host, "used", "v1", both)
	for _, c := range []*plugin.Call{valid, used} {
		if _, err := p.Add(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.Netlink().LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: ifb("net", "gone")}}); err != nil {
		t.Fatal(err)
	}
	if err := p.GC(ctx, &plugin.Call{Config: []byte(`{"name":"net"}`)}, []types.GCAttachment{{ContainerID: "valid", IfName: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	p.reaper.Close()
	for container, stays := range map[string]bool{"valid": true, "used": true, "gone": false} {
		if l, err := host.Link(ifb("net", container)); err != nil || stays != (l != nil) {
			t.Errorf("%s: %v, %v", container, l, err)
		}
	}
}
