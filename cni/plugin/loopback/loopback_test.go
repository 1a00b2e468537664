package loopback

import (
	"context"
	"errors"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func TestRootLoopback(t *testing.T) {
	linktest.Host(t)
	path, _ := linktest.Pod(t)
	c := &plugin.Call{Container: "c", IfName: "lo", NetNS: path, Pod: linktest.Open(t, path), Config: []byte(`{"cniVersion":"1.0.0"}`)}
	ctx, p := context.Background(), Plugin{}
	if err := p.Check(ctx, c); !errors.Is(err, ErrDown) {
		t.Errorf("before: %v", err)
	}
	r, err := p.Add(ctx, c)
	if err != nil || len(r.Interfaces) != 1 || r.Interfaces[0].Name != "lo" || r.Interfaces[0].Sandbox != path {
		t.Fatalf("%+v, %v", r, err)
	}
	var got []string
	for _, ip := range r.IPs {
		got = append(got, ip.Address.String())
	}
	if len(got) == 0 || got[0] != "127.0.0.1/8" {
		t.Errorf("addresses %v", got)
	}
	if err := errors.Join(p.Check(ctx, c), p.Status(ctx, c), p.Del(ctx, c), p.GC(ctx, c, nil), p.Supports(nil)); err != nil {
		t.Error(err)
	}
	// Behind other plugins it passes their result on.
	c.Config = []byte(`{"cniVersion":"1.0.0","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}}`)
	if r, err := p.Add(ctx, c); err != nil || len(r.IPs) != 1 || r.IPs[0].Address.String() != "10.0.0.2/24" {
		t.Errorf("%+v, %v", r, err)
	}
	c.Config = []byte(`{"cniVersion":"1.0.0","prevResult":7}`)
	if _, err := p.Add(ctx, c); err == nil {
		t.Error("a result that is none is passed on")
	}
}
