package cri

import (
	"github.com/berth-runtime/berth/sandbox/spec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// decodeContainer translates the configuration of a container. Its errors are
// *spec.FieldError, with CRI's name of the field.
func decodeContainer(in *v1.ContainerConfig) (*spec.Container, error) {
	if in == nil {
		return nil, missing("config")
	}
	if in.Metadata == nil {
		return nil, missing("metadata")
	}
	if in.Image == nil {
		return nil, missing("image")
	}
	mounts, err := decodeMounts("mounts", in.Mounts)
	if err != nil {
		return nil, err
	}
	signal, err := decodeSignal("stop_signal", in.StopSignal)
	if err != nil {
		return nil, err
	}
	security, err := decodeSecurity("linux.security_context", in.GetLinux().GetSecurityContext())
	if err != nil {
		return nil, err
	}
	out := &spec.Container{
		Metadata:    spec.ContainerMetadata{Name: in.Metadata.Name, Attempt: in.Metadata.Attempt},
		Image:       decodeImageRef(in.Image),
		Command:     in.Command,
		Args:        in.Args,
		WorkingDir:  in.WorkingDir,
		Mounts:      mounts,
		Labels:      in.Labels,
		Annotations: in.Annotations,
		LogPath:     in.LogPath,
		Stdin:       in.Stdin,
		StdinOnce:   in.StdinOnce,
		TTY:         in.Tty,
		StopSignal:  signal,
		Resources:   decodeResources(in.GetLinux().GetResources()),
		Security:    security,
	}
	if out.Envs, err = decodeEnvs("envs", in.Envs); err != nil {
		return nil, err
	}
	if out.Devices, err = decodeDevices("devices", in.Devices); err != nil {
		return nil, err
	}
	out.CDIDevices, err = decodeList("CDI_devices", in.CDIDevices,
		func(_ string, d *v1.CDIDevice) (string, error) { return d.Name, nil })
	return out, err
}

// decodeImageRef leaves out ImageSpec.image_ref: kubelet sets it for its own
// pod status (api.proto: "the digest of the image used for this volume"), and
// image already names what is to be used.
func decodeImageRef(in *v1.ImageSpec) spec.ImageRef {
	return spec.ImageRef{
		Image:              in.GetImage(),
		UserSpecifiedImage: in.GetUserSpecifiedImage(),
		RuntimeHandler:     in.GetRuntimeHandler(),
		Annotations:        in.GetAnnotations(),
	}
}

func decodeEnvs(field string, in []*v1.KeyValue) ([]spec.Env, error) {
	return decodeList(field, in, func(_ string, kv *v1.KeyValue) (spec.Env, error) {
		return spec.Env{Key: kv.Key, Value: kv.Value}, nil
	})
}

func decodeDevices(field string, in []*v1.Device) ([]spec.Device, error) {
	return decodeList(field, in, func(_ string, d *v1.Device) (spec.Device, error) {
		return spec.Device{ContainerPath: d.ContainerPath, HostPath: d.HostPath, Permissions: d.Permissions}, nil
	})
}

var propagations = map[v1.MountPropagation]spec.Propagation{
	v1.MountPropagation_PROPAGATION_PRIVATE:           spec.PropagationPrivate,
	v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER: spec.PropagationHostToContainer,
	v1.MountPropagation_PROPAGATION_BIDIRECTIONAL:     spec.PropagationBidirectional,
}

func decodeMounts(field string, in []*v1.Mount) ([]spec.Mount, error) {
	return decodeList(field, in, decodeMount)
}

func decodeMount(field string, in *v1.Mount) (spec.Mount, error) {
	propagation, err := decodeEnum(field+".propagation", in.Propagation, propagations)
	if err != nil {
		return spec.Mount{}, err
	}
	uids, err := decodeIDMappings(field+".uidMappings", in.UidMappings)
	if err != nil {
		return spec.Mount{}, err
	}
	gids, err := decodeIDMappings(field+".gidMappings", in.GidMappings)
	if err != nil {
		return spec.Mount{}, err
	}
	out := spec.Mount{
		ContainerPath:     in.ContainerPath,
		HostPath:          in.HostPath,
		Readonly:          in.Readonly,
		RecursiveReadonly: in.RecursiveReadOnly,
		SELinuxRelabel:    in.SelinuxRelabel,
		Propagation:       propagation,
		UIDs:              uids,
		GIDs:              gids,
		ImageSubPath:      in.ImageSubPath,
		Options:           in.MountOptions,
	}
	// kubelet sends an empty ImageSpec with the mounts that are not image volumes
	// (crictl's configuration files may too): no name, no image.
	if in.Image.GetImage() != "" {
		image := decodeImageRef(in.Image)
		out.Image = &image
	}
	return out, nil
}

// decodeResources returns nil for nil: a container without any limit said.
func decodeResources(in *v1.LinuxContainerResources) *spec.Resources {
	if in == nil {
		return nil
	}
	out := &spec.Resources{
		CPUPeriod:   in.CpuPeriod,
		CPUQuota:    in.CpuQuota,
		CPUShares:   in.CpuShares,
		MemoryLimit: in.MemoryLimitInBytes,
		OOMScoreAdj: in.OomScoreAdj,
		CpusetCPUs:  in.CpusetCpus,
		CpusetMems:  in.CpusetMems,
		Unified:     in.Unified,
		MemorySwap:  in.MemorySwapLimitInBytes,
	}
	for _, h := range in.HugepageLimits {
		out.Hugepages = append(out.Hugepages, spec.HugepageLimit{PageSize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	return out
}
