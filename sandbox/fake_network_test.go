package sandbox

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/berth-runtime/berth/cni"
)

type fakeNetwork struct{ *daemon }

func (n fakeNetwork) Add(_ context.Context, a cni.Attachment) (*cni.Result, error) {
	if n.busy != nil {
		n.busy()
	}
	if err := n.do("network add", func() { n.addresses[a.ID] = true }); err != nil {
		return nil, err
	}
	return &cni.Result{IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3")}}, nil
}

func (n fakeNetwork) Reserve(cni.Attachment) error { return n.do("network reserve", func() {}) }

func (n fakeNetwork) Del(_ context.Context, a cni.Attachment) error {
	return n.do("network del", func() { delete(n.addresses, a.ID) })
}

func (n fakeNetwork) GC(_ context.Context, valid []string) error {
	return n.do("network gc", func() {
		maps.DeleteFunc(n.addresses, func(id string, _ bool) bool { return !slices.Contains(valid, id) })
	})
}

func (n fakeNetwork) Status() error { return n.faults["network status"] }

func (n fakeNetwork) SetPodCIDRs([]netip.Prefix) error { return nil }
