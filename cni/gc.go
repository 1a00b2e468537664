package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-runtime/berth/cni/plugin"
)

// GC releases what pods hold that are not in valid: leases, port mappings, masquerading, cached results. A pod that was attached since the
// daemon started, and not released since, is never collected: the caller may have made its list before the pod came. Plugins are
// told to collect too (GC of the CNI specification), unless the list says disableGC. Meanwhile no pod is attached. From then on the same
// is done now and then for what is released after that.
func (n *Network) GC(ctx context.Context, valid []string) error {
	n.life.Lock()
	defer n.life.Unlock()
	keep, known := map[string]bool{}, map[string]bool{}
	for _, id := range valid {
		keep[id], known[id] = true, true
	}
	n.mu.Lock()
	n.valid = known
	n.mu.Unlock()
	n.collectLater()
	return n.gc(ctx, keep, true)
}

// gc is GC of what is not in keep, with life held for writing. Plugin processes are asked only if processes is set: pods wait for them.
func (n *Network) gc(ctx context.Context, keep map[string]bool, processes bool) error {
	var stale []string
	n.mu.Lock()
	for id, ours := range n.attached {
		if ours || !processes && n.retries.waits(id) { // whose DEL is run again without keeping all others from theirs
			keep[id] = true
		} else if !keep[id] {
			stale = append(stale, id)
		}
	}
	n.mu.Unlock()
	var errs []error
	for _, id := range stale {
		errs = append(errs, n.del(ctx, id, ""))
	}
	errs = append(errs, n.collectResults(ctx, keep))
	for _, net := range n.networks() {
		if !net.list.DisableGC {
			errs = append(errs, n.collect(ctx, net, attachments(keep), processes))
		}
	}
	owners := map[string]bool{}
	for id := range keep {
		owners[plugin.Owner(id, defaultInterface)] = true
	}
	errs = append(errs, n.tables.KeepAll(owners), n.filter.Keep(owners), n.guard.Keep(owners), n.tidy())
	return errors.Join(errs...)
}

// networks are those that pods can be attached to now.
func (n *Network) networks() []*network {
	var out []*network
	if net, err := n.network(); err == nil {
		out = append(out, net)
	}
	for _, dir := range n.handlers {
		if net, err := dir.get(); err == nil {
			out = append(out, net)
		}
	}
	return out
}

func attachments(keep map[string]bool) []types.GCAttachment {
	out := make([]types.GCAttachment, 0, len(keep))
	for id := range keep {
		out = append(out, types.GCAttachment{ContainerID: id, IfName: defaultInterface})
	}
	return out
}

// collectResults runs DEL for what libcni has a result of and we have no record, with the configuration that lies beside the result.
func (n *Network) collectResults(ctx context.Context, keep map[string]bool) error {
	cached, err := n.libcni(nil).GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("list cached results: %w", err)
	}
	var errs []error
	for _, c := range cached {
		if keep[c.ContainerID] {
			continue
		}
		list, err := libcni.NetworkConfFromBytes(c.Config)
		if err == nil && len(list.Plugins) > 0 {
			rt := &libcni.RuntimeConf{
				ContainerID: c.ContainerID, IfName: c.IfName, Args: c.CniArgs, CapabilityArgs: c.CapabilityArgs,
			}
			err = n.libcni(nil).DelNetworkList(ctx, list, rt)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("release attachment %s of network %s: %w", c.ContainerID, c.Network, err))
		}
	}
	return errors.Join(append(errs, n.dropTorn())...)
}

// dropTorn removes cached results that nobody can read: of a write that a power loss cut off.
func (n *Network) dropTorn() error {
	dir := filepath.Join(n.dir, "results")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Size() == 0 && !strings.HasPrefix(e.Name(), ".") {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// collect has the plugins of the network collect. Those that run here do so for every version of the specification, processes from
// 1.1.0 on, when libcni asks them.
func (n *Network) collect(ctx context.Context, net *network, valid []types.GCAttachment, processes bool) error {
	ctx, cancel := context.WithTimeout(ctx, delTimeout)
	defer cancel()
	if asks, err := version.GreaterThanOrEqualTo(net.list.CNIVersion, "1.1.0"); err == nil && asks && processes {
		return n.libcni(nil).GCNetworkList(ctx, net.list, &libcni.GCArgs{ValidAttachments: valid})
	}
	var errs []error
	for _, conf := range net.list.Plugins {
		p, here := n.plugins[conf.Network.Type]
		if !here {
			continue
		}
		whole, err := libcni.InjectConf(conf, map[string]any{
			"name": net.list.Name, "cniVersion": net.list.CNIVersion, "cni.dev/valid-attachments": valid,
		})
		if err == nil {
			run := &executor{plugins: n.plugins}
			_, err = run.ExecPlugin(ctx, inProcess+conf.Network.Type, whole.Bytes, n.environ("GC"))
		}
		if err != nil && p.Supports(conf.Bytes) == nil {
			errs = append(errs, fmt.Errorf("collect in %s: plugin %s: %w", net, conf.Network.Type, err))
		}
	}
	return errors.Join(errs...)
}

func (n *Network) environ(command string) []string {
	return []string{"CNI_COMMAND=" + command, "CNI_PATH=" + strings.Join(n.cfg.BinDirs, ":")}
}
