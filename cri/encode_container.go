package cri

import (
	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// encodeContainer gives the short form, as in lists.
func encodeContainer(in *sandbox.ContainerInfo) *v1.Container {
	return &v1.Container{
		Id:           in.ID,
		PodSandboxId: in.PodID,
		Metadata:     encodeContainerMetadata(in.Config.Metadata),
		Image:        encodeImageSpec(in),
		ImageRef:     encodeImageDigest(in),
		State:        encodeContainerState(in.State),
		CreatedAt:    encodeTime(in.CreatedAt),
		Labels:       in.Config.Labels,
		Annotations:  in.Config.Annotations,
		ImageId:      in.ImageID,
	}
}

// encodeContainerStatus gives the long form.
func encodeContainerStatus(in *sandbox.ContainerInfo) *v1.ContainerStatus {
	return &v1.ContainerStatus{
		Id:          in.ID,
		Metadata:    encodeContainerMetadata(in.Config.Metadata),
		State:       encodeContainerState(in.State),
		CreatedAt:   encodeTime(in.CreatedAt),
		StartedAt:   encodeTime(in.StartedAt),
		FinishedAt:  encodeTime(in.FinishedAt),
		ExitCode:    in.ExitCode,
		Image:       encodeImageSpec(in),
		ImageRef:    encodeImageDigest(in),
		Reason:      in.Reason,
		Message:     oneLine(in.Message),
		Labels:      in.Config.Labels,
		Annotations: in.Config.Annotations,
		Mounts:      encodeMounts(in.Config.Mounts),
		LogPath:     in.LogPath,
		Resources:   encodeResources(in.Resources),
		ImageId:     in.ImageID,
		User:        encodeUser(in.User),
		StopSignal:  encodeSignal(in.StopSignal),
	}
}

func encodeContainerMetadata(in spec.ContainerMetadata) *v1.ContainerMetadata {
	return &v1.ContainerMetadata{Name: in.Name, Attempt: in.Attempt}
}

func encodeContainerState(in sandbox.ContainerState) v1.ContainerState {
	switch in {
	case sandbox.ContainerCreated:
		return v1.ContainerState_CONTAINER_CREATED
	case sandbox.ContainerRunning:
		return v1.ContainerState_CONTAINER_RUNNING
	case sandbox.ContainerExited:
		return v1.ContainerState_CONTAINER_EXITED
	}
	return v1.ContainerState_CONTAINER_UNKNOWN
}

// encodeImageSpec names the image as people do. kubelet creates containers by
// image id; the status says the tag, so that `kubectl get` shows it.
func encodeImageSpec(in *sandbox.ContainerInfo) *v1.ImageSpec {
	name := in.ImageName
	if name == "" {
		name = in.Config.Image.Image
	}
	return &v1.ImageSpec{
		Image:              name,
		Annotations:        in.Config.Image.Annotations,
		UserSpecifiedImage: in.Config.Image.UserSpecifiedImage,
		RuntimeHandler:     in.Config.Image.RuntimeHandler,
	}
}

// encodeImageDigest gives the digested reference, or the id of an image that has
// none (an imported one): ContainerStatus.image_ref is required.
func encodeImageDigest(in *sandbox.ContainerInfo) string {
	if in.ImageDigest != "" {
		return in.ImageDigest
	}
	return in.ImageID
}

func encodeMounts(in []spec.Mount) []*v1.Mount {
	out := make([]*v1.Mount, 0, len(in))
	for _, m := range in {
		out = append(out, encodeMount(m))
	}
	return out
}

func encodeMount(in spec.Mount) *v1.Mount {
	out := &v1.Mount{
		ContainerPath:     in.ContainerPath,
		HostPath:          in.HostPath,
		Readonly:          in.Readonly,
		SelinuxRelabel:    in.SELinuxRelabel,
		Propagation:       encodePropagation(in.Propagation),
		UidMappings:       encodeIDMappings(in.UIDs),
		GidMappings:       encodeIDMappings(in.GIDs),
		RecursiveReadOnly: in.RecursiveReadonly,
		ImageSubPath:      in.ImageSubPath,
		MountOptions:      in.Options,
	}
	if in.Image != nil {
		out.Image = &v1.ImageSpec{
			Image:              in.Image.Image,
			Annotations:        in.Image.Annotations,
			UserSpecifiedImage: in.Image.UserSpecifiedImage,
			RuntimeHandler:     in.Image.RuntimeHandler,
		}
	}
	return out
}

func encodePropagation(in spec.Propagation) v1.MountPropagation {
	switch in {
	case spec.PropagationHostToContainer:
		return v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	case spec.PropagationBidirectional:
		return v1.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}
	return v1.MountPropagation_PROPAGATION_PRIVATE
}

// encodeResources gives back the values that the client set last, not what a
// cgroup made of them: shares to weight and back loses.
func encodeResources(in *spec.Resources) *v1.ContainerResources {
	if in == nil {
		return nil
	}
	out := &v1.LinuxContainerResources{
		CpuPeriod:              in.CPUPeriod,
		CpuQuota:               in.CPUQuota,
		CpuShares:              in.CPUShares,
		MemoryLimitInBytes:     in.MemoryLimit,
		OomScoreAdj:            in.OOMScoreAdj,
		CpusetCpus:             in.CpusetCPUs,
		CpusetMems:             in.CpusetMems,
		Unified:                in.Unified,
		MemorySwapLimitInBytes: in.MemorySwap,
	}
	for _, h := range in.Hugepages {
		out.HugepageLimits = append(out.HugepageLimits, &v1.HugepageLimit{PageSize: h.PageSize, Limit: h.Limit})
	}
	return &v1.ContainerResources{Linux: out}
}

func encodeUser(in *spec.User) *v1.ContainerUser {
	if in == nil {
		return nil
	}
	out := &v1.LinuxContainerUser{Uid: int64(in.UID), Gid: int64(in.GID)}
	for _, g := range in.Groups {
		out.SupplementalGroups = append(out.SupplementalGroups, int64(g))
	}
	return &v1.ContainerUser{Linux: out}
}
