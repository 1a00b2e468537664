package sandbox

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berth-runtime/berth/cni"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/oci/cgroup"
)

// What other rooms measure.
type (
	// Usage is what a cgroup used.
	Usage = cgroup.Usage
	// MemoryUsage is the part of Usage that is memory.
	MemoryUsage = cgroup.MemoryUsage
	// SwapUsage is the part that is swap.
	SwapUsage = cgroup.SwapUsage
	// Pressure is how long tasks waited for something.
	Pressure = cgroup.Pressure
	// InterfaceCounters are what passed an interface.
	InterfaceCounters = cni.InterfaceCounters
)

// ContainerStats is what a running container uses. It is immutable.
type ContainerStats struct {
	Container *ContainerInfo
	Usage     *Usage
	NanoCores *uint64     // billionths of a processor, since the sample before; nil: there is none yet
	Layer     *LayerUsage // nil: it writes to none, or nobody knows
}

// LayerUsage is what a container's writable layer takes.
type LayerUsage struct {
	At            time.Time // it is measured now and then only
	Bytes, Inodes uint64
	Mountpoint    string // a directory of its file system
}

// PodStats is what a ready pod uses. It is immutable.
type PodStats struct {
	Pod        *PodInfo
	Usage      *Usage // of the cgroup that kubelet made for it, otherwise the sum of its containers', without pressure
	NanoCores  *uint64
	Network    *NetworkStats // nil: it is on the host's network, or has none any more
	Containers []*ContainerStats
}

// NetworkStats is what passed a pod's interfaces.
type NetworkStats struct {
	At      time.Time
	Default *InterfaceCounters // of the one with the pod's addresses; nil: it has none
	Others  []InterfaceCounters
}

// PodStatsFilter chooses ready pods; what is not set matches all.
type PodStatsFilter struct {
	ID     string            // an id or its beginning
	Labels map[string]string // all of them
}

// statistics measures what runs.
type statistics struct{ *base }

// ContainerStats measures a running container. What was measured less than a second ago is not measured again.
// Errors: ErrNotFound, ErrState for one that doesn't run.
func (s *statistics) ContainerStats(id string) (*ContainerStats, error) {
	info, err := s.Container(id)
	if err != nil {
		return nil, err
	}
	if info.State != ContainerRunning {
		return nil, stateError("container", info.ID, info.State)
	}
	stats, err := s.containerStats(info)
	if errors.Is(err, cgroup.ErrGone) {
		return nil, fmt.Errorf("container %s has just ended: %w", info.ID, ErrState)
	}
	return stats, err
}

// ListContainerStats measures the running containers that f chooses, the oldest first. One that ends meanwhile, or
// can't be measured, is left out.
func (s *statistics) ListContainerStats(f ContainerFilter) []*ContainerStats {
	running := ContainerRunning
	f.State = &running
	return s.statsOf(s.Containers(f))
}

func (s *statistics) statsOf(containers []*ContainerInfo) []*ContainerStats {
	out := make([]*ContainerStats, 0, len(containers))
	for _, info := range containers {
		if info.State != ContainerRunning {
			continue
		}
		stats, err := s.containerStats(info)
		if err != nil {
			s.unmeasured("container", info.ID, err)
			continue
		}
		out = append(out, stats)
	}
	return out
}

// unmeasured is said of what is left out of a list, unless it has ended.
func (s *statistics) unmeasured(kind, id string, err error) {
	if !errors.Is(err, cgroup.ErrGone) && !errors.Is(err, ErrState) {
		s.log.WithField(kind, id).WithField("op", "measure").WithError(err).Warn("not measured")
	}
}

func (s *statistics) containerStats(info *ContainerInfo) (*ContainerStats, error) {
	g, err := s.gauges.of(info.ID, func() *gauge {
		return &gauge{meter: s.host.meter(info.Cgroup), began: info.StartedAt}
	}, func() bool { return s.runs(info.ID) })
	if err != nil {
		return nil, err
	}
	usage, rate, err := g.sample(time.Now())
	if err != nil {
		return nil, fmt.Errorf("measure container %s: %w", info.ID, err)
	}
	return &ContainerStats{Container: info, Usage: usage, NanoCores: rate, Layer: s.layerUsage(info.ID)}, nil
}

// runs says whether a container runs now.
func (s *statistics) runs(id string) bool {
	c := s.index.exactly(id)
	if c == nil {
		return false
	}
	i := c.info.Load()
	return i != nil && i.State == ContainerRunning
}

// layerUsage is nil when the container has no writable layer.
func (s *statistics) layerUsage(id string) *LayerUsage {
	usage, err := s.parts.Images.SnapshotUsage(id)
	if err != nil {
		if !errors.Is(err, imagestore.ErrNotFound) {
			s.unmeasured("container", id, err)
		}
		return nil
	}
	return &LayerUsage{At: usage.At, Bytes: usage.Bytes, Inodes: usage.Inodes, Mountpoint: s.parts.Images.Mountpoint()}
}

// PodStats measures a ready pod and its running containers, as ContainerStats does. Errors: ErrNotFound, ErrState for
// one that is not ready.
func (s *statistics) PodStats(id string) (*PodStats, error) {
	info, containers, err := s.Pod(id)
	if err != nil {
		return nil, err
	}
	if info.State != PodReady {
		return nil, stateError("pod", info.ID, info.State)
	}
	return s.podStats(info, containers)
}

// ListPodStats measures the ready pods that f chooses, the oldest first.
func (s *statistics) ListPodStats(f PodStatsFilter) []*PodStats {
	var out []*PodStats
	s.eachReady(f, func(info *PodInfo, containers []*ContainerInfo) {
		stats, err := s.podStats(info, containers)
		if err != nil {
			s.unmeasured("pod", info.ID, err)
			return
		}
		out = append(out, stats)
	})
	return out
}

// eachReady calls do for each ready pod that f chooses and its containers, the oldest first.
func (s *statistics) eachReady(f PodStatsFilter, do func(*PodInfo, []*ContainerInfo)) {
	ready := PodReady
	for _, info := range s.Pods(PodFilter{ID: f.ID, State: &ready, Labels: f.Labels}) {
		if _, containers, err := s.Pod(info.ID); err == nil { // otherwise it was removed meanwhile
			do(info, containers)
		}
	}
}

func (s *statistics) podStats(info *PodInfo, containers []*ContainerInfo) (*PodStats, error) {
	out := &PodStats{Pod: info, Containers: s.statsOf(containers)}
	g, err := s.podGauge(info)
	if err != nil {
		return nil, err
	}
	if g.meter != nil {
		out.Usage, out.NanoCores, err = g.sample(time.Now())
	}
	if g.meter == nil || errors.Is(err, cgroup.ErrGone) { // kubelet's group is its own to remove
		out.Usage, out.NanoCores = total(out.Containers)
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("measure pod %s: %w", info.ID, err)
	}
	out.Network, err = g.interfaces(s.host, info.NetNS)
	if err != nil {
		s.unmeasured("pod", info.ID, fmt.Errorf("measure network: %w", err))
	}
	return out, nil
}

func (s *statistics) podGauge(info *PodInfo) (*gauge, error) {
	return s.gauges.of(info.ID, func() *gauge {
		g := &gauge{began: info.CreatedAt}
		if group := s.podGroup(info); group != "" {
			g.meter = s.host.meter(group)
		}
		return g
	}, func() bool {
		p, err := s.index.pod(info.ID)
		return err == nil && p.state() == PodReady
	})
}

// podGroup is the cgroup that kubelet made for a pod alone: it has the pod's uid in its name (pkg/kubelet/cm,
// GetPodContainerName). "": the group is shared with others, or whoever made it is not known.
func (s *statistics) podGroup(info *PodInfo) string {
	uid := info.Config.Metadata.UID
	own, err := s.cfg.cgroup(info.Config, info.ID)
	if err != nil || uid == "" || info.Config.CgroupParent == "" {
		return ""
	}
	group := path.Dir(own)
	name := strings.TrimSuffix(path.Base(group), ".slice")
	if name == "pod"+uid || strings.HasSuffix(name, "-pod"+strings.ReplaceAll(uid, "-", "_")) {
		return group
	}
	return ""
}

// total is what the containers use together, as of the oldest sample. Limits and pressure have no sum.
func total(containers []*ContainerStats) (*Usage, *uint64) {
	out := &Usage{At: time.Now(), CPU: new(uint64), Memory: &MemoryUsage{}, Tasks: new(uint64)}
	var rate *uint64
	for _, c := range containers {
		u := c.Usage
		if u.At.Before(out.At) {
			out.At = u.At
		}
		out.CPU = plus(out.CPU, u.CPU)
		out.Tasks = plus(out.Tasks, u.Tasks)
		rate = plus(rate, c.NanoCores)
		if u.Memory != nil {
			out.Memory.Current += u.Memory.Current
			out.Memory.WorkingSet += u.Memory.WorkingSet
			out.Memory.RSS += u.Memory.RSS
			out.Memory.Faults += u.Memory.Faults
			out.Memory.MajorFault += u.Memory.MajorFault
		}
		if u.Swap != nil {
			if out.Swap == nil {
				out.Swap = &SwapUsage{}
			}
			out.Swap.Current += u.Swap.Current
		}
	}
	return out, rate
}

func plus(a, b *uint64) *uint64 {
	switch {
	case b == nil:
		return a
	case a == nil:
		return b
	}
	sum := *a + *b
	return &sum
}

// split tells a pod's default interface from the others.
func split(all []InterfaceCounters, at time.Time) *NetworkStats {
	out := &NetworkStats{At: at}
	if i := slices.IndexFunc(all, func(c InterfaceCounters) bool { return c.Name == cni.DefaultInterface }); i >= 0 {
		first := all[i]
		out.Default, all = &first, slices.Concat(all[:i], all[i+1:])
	}
	out.Others = all
	return out
}
