package cri

import (
	"slices"
	"strconv"

	"github.com/berth-runtime/berth/sandbox"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Metrics have the names, help texts and labels that cAdvisor gives them in kubelet's /metrics/cadvisor, since with the feature gate
// PodAndContainerStatsFromCRI they take their place there (KEP-2371): dashboards and alerts go on to work. Values are
// integers in CRI, so that times lose what is less than a second.

// baseLabels are every metric's: the cgroup, the container's id and image, and the names of container, pod and namespace, of
// which a pod's own metrics have the pod's alone.
var baseLabels = []string{"id", "name", "image", "container", "pod", "namespace"}

// subject is what has metrics: a container, or a pod as a whole. What it has none of is nil.
type subject struct {
	usage     *sandbox.Usage
	detail    *sandbox.Detail
	network   *sandbox.NetworkStats
	container *sandbox.ContainerMetrics
	disk      *sandbox.FilesystemStats
	devices   map[[2]uint32]string // names of block devices that were looked up
	now       int64                // seconds of Unix time
}

// point is one value of a metric, with the values of the labels that the metric has beside the base ones.
type point struct {
	value  uint64
	labels []string
}

// metric is a family: its points of a subject are none when the subject or the node has no such thing.
type metric struct {
	name, help string
	kind       v1.MetricType
	labels     []string // beside the base ones
	points     func(*subject) []point
}

const (
	counter = v1.MetricType_COUNTER
	gauge   = v1.MetricType_GAUGE
)

// metricDescriptors describes all metrics.
func metricDescriptors() []*v1.MetricDescriptor {
	out := make([]*v1.MetricDescriptor, 0, len(metrics))
	for _, m := range metrics {
		keys := slices.Concat(baseLabels, m.labels)
		out = append(out, &v1.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: keys})
	}
	return out
}

// one is a single point, of a number that may not be known.
func one(n *uint64) []point {
	if n == nil {
		return nil
	}
	return []point{{value: *n}}
}

func is(n uint64) []point { return []point{{value: n}} }

const second = 1_000_000_000

// The helpers below make a metric's points from one part of a subject, where it has that.

func ofCPU(f func(*sandbox.CPUDetail) uint64) func(*subject) []point {
	return func(s *subject) []point {
		if s.detail == nil || s.detail.CPU == nil {
			return nil
		}
		return is(f(s.detail.CPU))
	}
}

func ofMemory(f func(*sandbox.MemoryUsage) uint64) func(*subject) []point {
	return func(s *subject) []point {
		if s.usage == nil || s.usage.Memory == nil {
			return nil
		}
		return is(f(s.usage.Memory))
	}
}

func ofMemoryDetail(f func(*sandbox.MemoryDetail) *uint64) func(*subject) []point {
	return func(s *subject) []point {
		if s.detail == nil || s.detail.Memory == nil {
			return nil
		}
		return one(f(s.detail.Memory))
	}
}

func ofPressure(f func(*sandbox.Usage) *sandbox.Pressure, total func(*sandbox.Pressure) uint64) func(*subject) []point {
	return func(s *subject) []point {
		if s.usage == nil || f(s.usage) == nil {
			return nil
		}
		return is(total(f(s.usage)) / second)
	}
}

func ofProcesses(f func(*sandbox.ProcessMetrics) *uint64) func(*subject) []point {
	return func(s *subject) []point {
		if s.container == nil || s.container.Processes == nil {
			return nil
		}
		return one(f(s.container.Processes))
	}
}

// ofInterfaces has a point for each interface of a pod.
func ofInterfaces(f func(*sandbox.InterfaceCounters) uint64) func(*subject) []point {
	return func(s *subject) (out []point) {
		if s.network == nil {
			return nil
		}
		if s.network.Default != nil {
			out = append(out, point{f(s.network.Default), []string{s.network.Default.Name}})
		}
		for _, c := range s.network.Others {
			out = append(out, point{f(&c), []string{c.Name}})
		}
		return out
	}
}

// ofDisks has a point for each device that a container used.
func ofDisks(f func(sandbox.DiskUsage) uint64) func(*subject) []point {
	return func(s *subject) (out []point) {
		if s.detail == nil || s.container == nil {
			return nil
		}
		for _, d := range s.detail.Disks {
			out = append(out, point{f(d), []string{s.device(d)}})
		}
		return out
	}
}

// device is the name of a block device.
func (s *subject) device(d sandbox.DiskUsage) string {
	number := [2]uint32{d.Major, d.Minor}
	name, known := s.devices[number]
	if !known {
		name = sandbox.DeviceName(d.Major, d.Minor)
		s.devices[number] = name
	}
	return name
}

// deviceOperations has one for each kind of operation, too.
func deviceOperations(s *subject) (out []point) {
	if s.detail == nil || s.container == nil {
		return nil
	}
	for _, d := range s.detail.Disks {
		labels := func(operation string) []string {
			return []string{s.device(d), strconv.FormatUint(uint64(d.Major), 10), strconv.FormatUint(uint64(d.Minor), 10), operation}
		}
		out = append(out, point{d.ReadBytes, labels("Read")}, point{d.WriteBytes, labels("Write")}, point{d.DiscardBytes, labels("Discard")})
	}
	return out
}

// ofFilesystem is of where a container's writable layer is.
func ofFilesystem(f func(*sandbox.FilesystemStats, *sandbox.LayerUsage) uint64) func(*subject) []point {
	return func(s *subject) []point {
		if s.container == nil || s.container.Layer == nil {
			return nil
		}
		return []point{{f(s.disk, s.container.Layer), []string{s.disk.Device}}}
	}
}

func ofHugepages(f func(sandbox.HugepageUsage) *uint64) func(*subject) []point {
	return func(s *subject) (out []point) {
		if s.detail == nil {
			return nil
		}
		for _, h := range s.detail.Hugepages {
			if n := f(h); n != nil {
				out = append(out, point{*n, []string{h.PageSize}})
			}
		}
		return out
	}
}

// memoryFailures counts page faults; the group's own can be told from those below it on cgroup v1 only.
func memoryFailures(s *subject) []point {
	if s.detail == nil || s.detail.Memory == nil {
		return nil
	}
	m := s.detail.Memory
	return []point{
		{m.OwnFaults, []string{"pgfault", "container"}}, {m.Faults, []string{"pgfault", "hierarchy"}},
		{m.OwnMajorFaults, []string{"pgmajfault", "container"}}, {m.MajorFaults, []string{"pgmajfault", "hierarchy"}},
	}
}

// ofContainer is of containers alone.
func ofContainer(f func(s *subject) []point) func(*subject) []point {
	return func(s *subject) []point {
		if s.container == nil {
			return nil
		}
		return f(s)
	}
}

// The limits of processors are those that the client set last.

const (
	defaultPeriod = 100_000 // microseconds: the kernel's (sched-bwc.rst)
	defaultShares = 1024
)

func cpuPeriod(s *subject) []point {
	if r := s.container.Container.Resources; r != nil && r.CPUPeriod > 0 {
		return is(uint64(r.CPUPeriod))
	}
	return is(defaultPeriod)
}

func cpuQuota(s *subject) []point {
	if r := s.container.Container.Resources; r != nil && r.CPUQuota > 0 {
		return is(uint64(r.CPUQuota))
	}
	return nil // as cAdvisor: there is none without a limit
}

func cpuShares(s *subject) []point {
	if r := s.container.Container.Resources; r != nil && r.CPUShares > 0 {
		return is(uint64(r.CPUShares))
	}
	return is(defaultShares)
}
