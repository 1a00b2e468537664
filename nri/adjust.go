package nri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/runtime-tools/generate"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// ErrUnsupported is what a plugin wants of a container and can't have.
var ErrUnsupported = errors.New("a plugin may not change it")

// Adjust asks what a container is to be that is made; see sandbox.Plugins.
func (p *Plugins) Adjust(ctx context.Context, pod *sandbox.PodInfo, c *sandbox.ContainerInfo, s *specs.Spec) (sandbox.Adjustment, error) {
	reply, err := p.adaptation.CreateContainer(ctx, &api.CreateContainerRequest{Pod: encodePod(pod), Container: encodeContainer(c, s)})
	if err != nil {
		return sandbox.Adjustment{}, err
	}
	adjust := reply.GetAdjust()
	if err := supported(adjust); err != nil {
		return sandbox.Adjustment{}, err
	}
	message, err := json.Marshal(adjust)
	if err != nil {
		return sandbox.Adjustment{}, fmt.Errorf("keep adjustment: %w", err)
	}
	p.apply(reply.GetUpdate())
	out := sandbox.Adjustment{Message: message}
	for _, d := range adjust.GetCDIDevices() {
		out.CDIDevices = append(out.CDIDevices, d.Name)
	}
	return out, nil
}

// supported refuses what berth decides alone, and what it has no notion of.
func supported(a *api.ContainerAdjustment) error {
	l := a.GetLinux()
	for what, is := range map[string]bool{
		"cgroups path": l.GetCgroupsPath() != "", "namespaces": len(l.GetNamespaces()) > 0, "network devices": len(l.GetNetDevices()) > 0,
		"RDT": hasRDT(l.GetRdt()) || l.GetResources().GetRdtClass() != nil, "block I/O class": l.GetResources().GetBlockioClass() != nil,
		"sysctls": len(l.GetSysctl()) > 0,
	} {
		if is {
			return fmt.Errorf("%s: %w", what, ErrUnsupported)
		}
	}
	return nil
}

func hasRDT(r *api.LinuxRdt) bool {
	return r.GetRemove() || r.GetClosId() != nil || r.GetSchemata() != nil || r.GetEnableMonitoring() != nil
}

// Apply changes a Spec as plugins wanted, when the container was made; see sandbox.Plugins.
func (p *Plugins) Apply(message json.RawMessage, s *specs.Spec) error {
	a := &api.ContainerAdjustment{}
	if err := json.Unmarshal(message, a); err != nil {
		return fmt.Errorf("read adjustment: %w", err)
	}
	a.CDIDevices = nil // the sandbox resolved them when it got to know of them
	if seccomp := s.Linux.Seccomp; a.GetLinux().GetSeccompPolicy() != nil && seccomp != nil {
		own := *seccomp // others share the default one
		s.Linux.Seccomp = &own
	}
	g := newGenerator(s)
	defer g.finish()
	if err := generate.SpecGenerator(g).Adjust(a); err != nil {
		return fmt.Errorf("apply adjustment: %w", err)
	}
	if m := a.GetLinux().GetResources().GetMemory(); m.GetLimit() != nil && m.GetSwap() == nil {
		limit := m.GetLimit().GetValue() // no swap, as for a limit of kubelet's
		g.SetLinuxResourcesMemorySwap(limit)
	}
	return nil
}

// Update asks what limits a container is to get that is updated; see sandbox.Plugins.
func (p *Plugins) Update(ctx context.Context, pod *sandbox.PodInfo, c *sandbox.ContainerInfo, update *spec.Resources) (*spec.Resources, error) {
	asked := api.FromOCILinuxResources(update.Linux(), nil)
	if update != nil && update.MemorySwap == 0 && asked.Memory != nil {
		asked.Memory.Swap = nil // it follows the limit, also one of a plugin's
	}
	reply, err := p.adaptation.UpdateContainer(ctx, &api.UpdateContainerRequest{
		Pod: encodePod(pod), Container: encodeContainer(c, nil), LinuxResources: asked,
	})
	if err != nil {
		return nil, err
	}
	var others []*api.ContainerUpdate
	out := update
	for _, u := range reply.GetUpdate() {
		if u.ContainerId != c.ID {
			others = append(others, u)
		} else if out, err = update.With(decodeResources(u.GetLinux().GetResources())); err != nil {
			return nil, err
		}
	}
	p.apply(others)
	return out, nil
}

// decodeResources are the limits of a plugin's that CRI has too.
func decodeResources(in *api.LinuxResources) *spec.Resources {
	out := &spec.Resources{Unified: in.GetUnified()}
	if cpu := in.GetCpu(); cpu != nil {
		out.CPUPeriod, out.CPUQuota, out.CPUShares = int64(cpu.GetPeriod().GetValue()), cpu.GetQuota().GetValue(), int64(cpu.GetShares().GetValue())
		out.CpusetCPUs, out.CpusetMems = cpu.GetCpus(), cpu.GetMems()
	}
	if memory := in.GetMemory(); memory != nil {
		out.MemoryLimit, out.MemorySwap = memory.GetLimit().GetValue(), memory.GetSwap().GetValue()
	}
	for _, h := range in.GetHugepageLimits() {
		out.Hugepages = append(out.Hugepages, spec.HugepageLimit{PageSize: h.PageSize, Limit: h.Limit})
	}
	return out
}
