package cni

import (
	"context"
	"encoding/json"
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
	"github.com/berth-runtime/berth/cni/plugin/link"
)

// runner runs plugin chains by libcni, with our executor under it.
type runner struct {
	binDirs []string
	dir     string // libcni's cache is below it
	plugins map[string]plugin.Plugin
}

// in returns libcni in a pod, which is nil for what concerns none.
func (r *runner) in(pod *link.Space) *libcni.CNIConfig {
	return r.by(&executor{plugins: r.plugins, pod: pod})
}

func (r *runner) by(e *executor) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(r.binDirs, r.dir, e)
}

// collectResults runs DEL for what libcni has a result of and we have no record, with the configuration that lies beside the result.
func (r *runner) collectResults(ctx context.Context, keep map[string]bool) error {
	cached, err := r.in(nil).GetCachedAttachments("")
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
			err = r.in(nil).DelNetworkList(ctx, list, rt)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("release attachment %s of network %s: %w", c.ContainerID, c.Network, err))
		}
	}
	return errors.Join(append(errs, r.dropTorn())...)
}

// dropTorn removes cached results that nobody can read: of a write that a power loss cut off.
func (r *runner) dropTorn() error {
	dir := filepath.Join(r.dir, "results")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err == nil && !json.Valid(data) && !strings.HasPrefix(e.Name(), ".") {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// collect has the plugins of the network collect. Those that run here do so for every version of the specification, processes from
// 1.1.0 on, when libcni asks them.
func (r *runner) collect(ctx context.Context, net *network, valid []types.GCAttachment, processes bool) error {
	ctx, cancel := context.WithTimeout(ctx, delTimeout)
	defer cancel()
	if asks, err := version.GreaterThanOrEqualTo(net.list.CNIVersion, "1.1.0"); err == nil && asks && processes {
		return r.in(nil).GCNetworkList(ctx, net.list, &libcni.GCArgs{ValidAttachments: valid})
	}
	environ := []string{"CNI_COMMAND=GC", "CNI_PATH=" + strings.Join(r.binDirs, ":")}
	var errs []error
	for _, conf := range net.list.Plugins {
		p, here := r.plugins[conf.Network.Type]
		if !here {
			continue
		}
		whole, err := libcni.InjectConf(conf, map[string]any{
			"name": net.list.Name, "cniVersion": net.list.CNIVersion, "cni.dev/valid-attachments": valid,
		})
		if err == nil {
			run := &executor{plugins: r.plugins}
			_, err = run.ExecPlugin(ctx, inProcess+conf.Network.Type, whole.Bytes, environ)
		}
		if err != nil && p.Supports(conf.Bytes) == nil {
			errs = append(errs, fmt.Errorf("collect in %s: plugin %s: %w", net, conf.Network.Type, err))
		}
	}
	return errors.Join(errs...)
}
