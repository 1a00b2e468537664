package nri

import (
	"maps"
	"slices"
	"time"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox"
)

// encodePod is a pod as plugins see it.
func encodePod(in *sandbox.PodInfo) *api.PodSandbox {
	config := in.Config
	out := &api.PodSandbox{
		Id: in.ID, Name: config.Metadata.Name, Uid: config.Metadata.UID, Namespace: config.Metadata.Namespace,
		Labels: config.Labels, Annotations: config.Annotations, RuntimeHandler: config.RuntimeHandler,
		Linux: &api.LinuxPodSandbox{
			PodOverhead:  api.FromOCILinuxResources(config.Overhead.Linux(), nil),
			PodResources: api.FromOCILinuxResources(config.Resources.Linux(), nil),
			CgroupParent: config.CgroupParent,
		},
	}
	if in.NetNS != "" {
		out.Linux.Namespaces = []*api.LinuxNamespace{{Type: string(specs.NetworkNamespace), Path: in.NetNS}}
	}
	for _, ip := range in.IPs {
		out.Ips = append(out.Ips, ip.String())
	}
	return out
}

var states = map[sandbox.ContainerState]api.ContainerState{
	sandbox.ContainerCreated: api.ContainerState_CONTAINER_CREATED,
	sandbox.ContainerRunning: api.ContainerState_CONTAINER_RUNNING,
	sandbox.ContainerExited:  api.ContainerState_CONTAINER_STOPPED,
}

// encodeContainer is a container as plugins see it, with what it is made of when s is not nil. The module writes into it.
func encodeContainer(in *sandbox.ContainerInfo, s *specs.Spec) *api.Container {
	out := &api.Container{
		Id: in.ID, PodSandboxId: in.PodID, Name: in.Config.Metadata.Name, State: states[in.State],
		Labels: maps.Clone(in.Config.Labels), Annotations: maps.Clone(in.Config.Annotations), Pid: uint32(in.PID),
		CreatedAt: nanoseconds(in.CreatedAt), StartedAt: nanoseconds(in.StartedAt), FinishedAt: nanoseconds(in.FinishedAt),
		ExitCode: in.ExitCode, StatusReason: in.Reason, StatusMessage: in.Message,
		Image: &api.Image{Name: in.ImageName, Digest: in.ImageDigest, ConfigDigest: in.ImageID},
		Linux: &api.LinuxContainer{CgroupsPath: in.Cgroup, Resources: api.FromOCILinuxResources(in.Resources.Linux(), nil)},
	}
	for _, name := range in.Config.CDIDevices {
		out.CDIDevices = append(out.CDIDevices, &api.CDIDevice{Name: name})
	}
	if s != nil {
		describe(out, s)
	}
	return out
}

// describe adds what only the Spec has.
func describe(out *api.Container, s *specs.Spec) {
	out.Annotations, out.Mounts, out.Hooks = maps.Clone(s.Annotations), api.FromOCIMounts(s.Mounts), api.FromOCIHooks(s.Hooks)
	if s.Process != nil {
		out.Args, out.Env = slices.Clone(s.Process.Args), slices.Clone(s.Process.Env)
		for _, r := range s.Process.Rlimits {
			out.Rlimits = append(out.Rlimits, &api.POSIXRlimit{Type: r.Type, Hard: r.Hard, Soft: r.Soft})
		}
		out.User = &api.User{Uid: s.Process.User.UID, Gid: s.Process.User.GID, AdditionalGids: s.Process.User.AdditionalGids}
		out.Linux.OomScoreAdj = api.Int(s.Process.OOMScoreAdj)
	}
	if l := s.Linux; l != nil {
		out.Linux.Namespaces, out.Linux.Devices = api.FromOCILinuxNamespaces(l.Namespaces), api.FromOCILinuxDevices(l.Devices)
		out.Linux.Resources = api.FromOCILinuxResources(l.Resources, nil)
	}
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
