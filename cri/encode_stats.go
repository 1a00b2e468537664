package cri

import (
	"time"

	"github.com/berth-runtime/berth/sandbox"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func encodeContainerStats(in *sandbox.ContainerStats) *v1.ContainerStats {
	return &v1.ContainerStats{
		Attributes: &v1.ContainerAttributes{
			Id:          in.Container.ID,
			Metadata:    encodeContainerMetadata(in.Container.Config.Metadata),
			Labels:      in.Container.Config.Labels,
			Annotations: in.Container.Config.Annotations,
		},
		Cpu:           encodeCPU(in.Usage, in.NanoCores),
		Memory:        encodeMemory(in.Usage),
		WritableLayer: encodeLayer(in.Layer),
		Swap:          encodeSwap(in.Usage),
		Io:            encodeIO(in.Usage),
	}
}

func encodePodStats(in *sandbox.PodStats) *v1.PodSandboxStats {
	config := in.Pod.Config
	linux := &v1.LinuxPodSandboxStats{
		Cpu:     encodeCPU(in.Usage, in.NanoCores),
		Memory:  encodeMemory(in.Usage),
		Network: encodeNetwork(in.Network),
		Io:      encodeIO(in.Usage),
	}
	if in.Usage.Tasks != nil {
		// As other runtimes: what a limit of processes counts.
		linux.Process = &v1.ProcessUsage{Timestamp: encodeTime(in.Usage.At), ProcessCount: encodeCount(in.Usage.Tasks)}
	}
	for _, c := range in.Containers {
		linux.Containers = append(linux.Containers, encodeContainerStats(c))
	}
	return &v1.PodSandboxStats{
		Attributes: &v1.PodSandboxAttributes{
			Id: in.Pod.ID, Metadata: encodePodMetadata(config.Metadata), Labels: config.Labels, Annotations: config.Annotations,
		},
		Linux: linux,
	}
}

func encodeCount(n *uint64) *v1.UInt64Value {
	if n == nil {
		return nil
	}
	return &v1.UInt64Value{Value: *n}
}

func encodeNumber(n uint64) *v1.UInt64Value { return &v1.UInt64Value{Value: n} }

func encodeCPU(in *sandbox.Usage, nanoCores *uint64) *v1.CpuUsage {
	if in.CPU == nil {
		return nil
	}
	return &v1.CpuUsage{
		Timestamp: encodeTime(in.At), UsageCoreNanoSeconds: encodeCount(in.CPU), UsageNanoCores: encodeCount(nanoCores), Psi: encodePressure(in.CPUPressure),
	}
}

func encodeMemory(in *sandbox.Usage) *v1.MemoryUsage {
	if in.Memory == nil {
		return nil
	}
	out := &v1.MemoryUsage{
		Timestamp:       encodeTime(in.At),
		WorkingSetBytes: encodeNumber(in.Memory.WorkingSet),
		UsageBytes:      encodeNumber(in.Memory.Current),
		RssBytes:        encodeNumber(in.Memory.RSS),
		PageFaults:      encodeNumber(in.Memory.Faults),
		MajorPageFaults: encodeNumber(in.Memory.MajorFault),
		Psi:             encodePressure(in.MemoryPressure),
	}
	if in.Memory.Limit > 0 {
		out.AvailableBytes = encodeNumber(remaining(in.Memory.Limit, in.Memory.WorkingSet))
	}
	return out
}

func encodeSwap(in *sandbox.Usage) *v1.SwapUsage {
	if in.Swap == nil {
		return nil
	}
	out := &v1.SwapUsage{Timestamp: encodeTime(in.At), SwapUsageBytes: encodeNumber(in.Swap.Current)}
	if in.Swap.Limit != nil {
		out.SwapAvailableBytes = encodeNumber(remaining(*in.Swap.Limit, in.Swap.Current))
	}
	return out
}

func remaining(limit, used uint64) uint64 {
	if used > limit {
		return 0
	}
	return limit - used
}

func encodeIO(in *sandbox.Usage) *v1.IoUsage {
	if in.IOPressure == nil {
		return nil
	}
	return &v1.IoUsage{Timestamp: encodeTime(in.At), Psi: encodePressure(in.IOPressure)}
}

func encodePressure(in *sandbox.Pressure) *v1.PsiStats {
	if in == nil {
		return nil
	}
	return &v1.PsiStats{
		Some: &v1.PsiData{Total: in.Some.Total, Avg10: in.Some.Avg10, Avg60: in.Some.Avg60, Avg300: in.Some.Avg300},
		Full: &v1.PsiData{Total: in.Full.Total, Avg10: in.Full.Avg10, Avg60: in.Full.Avg60, Avg300: in.Full.Avg300},
	}
}

func encodeLayer(in *sandbox.LayerUsage) *v1.FilesystemUsage {
	if in == nil {
		return nil
	}
	return &v1.FilesystemUsage{
		Timestamp: encodeTime(in.At), FsId: &v1.FilesystemIdentifier{Mountpoint: in.Mountpoint},
		UsedBytes: encodeNumber(in.Bytes), InodesUsed: encodeNumber(in.Inodes),
	}
}

func encodeNetwork(in *sandbox.NetworkStats) *v1.NetworkUsage {
	if in == nil {
		return nil
	}
	out := &v1.NetworkUsage{Timestamp: encodeTime(in.At)}
	if in.Default != nil {
		out.DefaultInterface = encodeInterface(in.Default)
	}
	for _, c := range in.Others {
		out.Interfaces = append(out.Interfaces, encodeInterface(&c))
	}
	return out
}

func encodeInterface(in *sandbox.InterfaceCounters) *v1.NetworkInterfaceUsage {
	return &v1.NetworkInterfaceUsage{
		Name:    in.Name,
		RxBytes: encodeNumber(in.RxBytes), RxErrors: encodeNumber(in.RxErrors),
		TxBytes: encodeNumber(in.TxBytes), TxErrors: encodeNumber(in.TxErrors),
	}
}

// encodeCollected is a metric's time: 0 for what was measured for this request.
func encodeCollected(at, began time.Time) int64 {
	if at.Before(began) {
		return encodeTime(at)
	}
	return 0
}
