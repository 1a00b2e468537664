package link_test

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootLookInABatch has the kernel tell of what the batch itself has made, after and before something that fails.
func TestRootLookInABatch(t *testing.T) {
	host := linktest.Host(t)
	path, _ := linktest.Pod(t)
	pod := linktest.Open(t, path)
	b := host.Batch()
	b.AddVeth(link.Veth{Name: "v0", MAC: link.RandomMAC(), Pod: pod, PodName: "eth0", PodMAC: link.RandomMAC()})
	found := b.Look("v0")
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	peer, err := pod.Index("eth0")
	if err != nil || found.Peer != peer || found.Up {
		t.Errorf("%+v, the other end is %d: %v", found, peer, err)
	}
	if index, err := host.Index("v0"); err != nil || index != found.Index {
		t.Errorf("%+v, the index is %d: %v", found, index, err)
	}
	l, err := host.Link("v0")
	if err != nil || l.Attrs().NumTxQueues != 1 || l.Attrs().NumRxQueues != 1 {
		t.Errorf("%d and %d queues, %v", l.Attrs().NumTxQueues, l.Attrs().NumRxQueues, err)
	}

	// The first that fails is named, what follows is done, and its answers are not taken for another's.
	b = host.Batch()
	b.AddAddress(found.Index+1000, netip.MustParsePrefix("10.0.0.1/24"), false)
	again := b.Look("v0")
	b.Up(found.Index)
	if err := b.Run(); !errors.Is(err, syscall.ENODEV) || again.Index != found.Index {
		t.Errorf("%v, %+v", err, again)
	}
	b = host.Batch()
	none := b.Look("none")
	if err := b.Run(); !errors.Is(err, syscall.ENODEV) || none.Index != 0 {
		t.Errorf("%v, %+v", err, none)
	}

	// An interface whose other end is down has no carrier, and nobody waits for it longer than he wants.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := host.AwaitUp(ctx, "v0"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := linktest.Up(pod, peer); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(host.AwaitUp(t.Context(), "v0"), pod.AwaitUp(t.Context(), "eth0")); err != nil {
		t.Error(err)
	}
}
