package cni

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-runtime/berth/cni/plugin"
)

// GC releases what pods hold that are not in valid: leases, port mappings, masquerading, cached results. A pod that was attached since the
// daemon started, and not released since, is never collected: the caller may have made its list before the pod came. Plugins are
// told to collect too (GC of the CNI specification), unless the list says disableGC. Meanwhile no pod is attached. From then on the same
// is done now and then for what is released after that.
func (n *Network) GC(ctx context.Context, valid []string) error {
	n.life.Lock()
	defer n.life.Unlock()
	n.book.setValid(valid)
	n.janitor.sweepLater(n.ctx)
	return n.gc(ctx, n.book.stillValid(), true)
}

// sweep is the GC that nobody asked for, with life held for writing: of what was valid when somebody did, less what was released since.
func (n *Network) sweep(ctx context.Context) error { return n.gc(ctx, n.book.stillValid(), false) }

// gc is GC of what is not in keep, with life held for writing. Plugin processes are asked only if processes is set: pods wait for them.
func (n *Network) gc(ctx context.Context, keep map[string]bool, processes bool) error {
	// A pod whose DEL is run again is left to that, which keeps no others waiting.
	stale := n.book.stale(keep, func(id string) bool { return !processes && n.retries.waits(id) })
	var errs []error
	for _, id := range stale {
		errs = append(errs, n.del(ctx, id, ""))
	}
	errs = append(errs, n.run.collectResults(ctx, keep))
	for _, net := range n.networks.all() {
		if !net.list.DisableGC {
			errs = append(errs, n.run.collect(ctx, net, attachments(keep), processes))
		}
	}
	owners := map[string]bool{}
	for id := range keep {
		owners[plugin.Owner(id, defaultInterface)] = true
	}
	return errors.Join(append(errs, n.fabric.keep(owners), n.tidy())...)
}

func attachments(keep map[string]bool) []types.GCAttachment {
	out := make([]types.GCAttachment, 0, len(keep))
	for id := range keep {
		out = append(out, types.GCAttachment{ContainerID: id, IfName: defaultInterface})
	}
	return out
}
