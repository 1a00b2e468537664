package cri

import (
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// encodePod gives the short form, as in lists.
func encodePod(in *sandbox.PodInfo) *v1.PodSandbox {
	return &v1.PodSandbox{
		Id:             in.ID,
		Metadata:       encodePodMetadata(in.Config.Metadata),
		State:          encodePodState(in.State),
		CreatedAt:      encodeTime(in.CreatedAt),
		Labels:         in.Config.Labels,
		Annotations:    in.Config.Annotations,
		RuntimeHandler: in.Config.RuntimeHandler,
	}
}

// encodePodStatus gives the long form. Labels, annotations and the runtime handler
// go back as they came.
func encodePodStatus(in *sandbox.PodInfo) *v1.PodSandboxStatus {
	return &v1.PodSandboxStatus{
		Id:        in.ID,
		Metadata:  encodePodMetadata(in.Config.Metadata),
		State:     encodePodState(in.State),
		CreatedAt: encodeTime(in.CreatedAt),
		Network:   encodePodNetwork(in),
		Linux: &v1.LinuxPodSandboxStatus{
			Namespaces: &v1.Namespace{Options: encodeNamespaces(in.Config.Security.Namespaces)},
		},
		Labels:         in.Config.Labels,
		Annotations:    in.Config.Annotations,
		RuntimeHandler: in.Config.RuntimeHandler,
	}
}

func encodePodMetadata(in spec.PodMetadata) *v1.PodSandboxMetadata {
	return &v1.PodSandboxMetadata{Name: in.Name, Uid: in.UID, Namespace: in.Namespace, Attempt: in.Attempt}
}

func encodePodState(in sandbox.PodState) v1.PodSandboxState {
	if in == sandbox.PodReady {
		return v1.PodSandboxState_SANDBOX_READY
	}
	return v1.PodSandboxState_SANDBOX_NOTREADY
}

// encodePodNetwork leaves the address of a pod in the host's network empty:
// kubelet fills in the node's, and asks for a new sandbox only when a pod with a
// network of its own has none.
func encodePodNetwork(in *sandbox.PodInfo) *v1.PodSandboxNetworkStatus {
	out := &v1.PodSandboxNetworkStatus{}
	for i, ip := range in.IPs {
		if i == 0 {
			out.Ip = ip.String()
			continue
		}
		out.AdditionalIps = append(out.AdditionalIps, &v1.PodIP{Ip: ip.String()})
	}
	return out
}

// encodeNamespaces must say POD or NODE for the network as the client did:
// kubelet makes a new sandbox when they differ.
func encodeNamespaces(in spec.Namespaces) *v1.NamespaceOption {
	out := &v1.NamespaceOption{
		Network:  encodeNamespaceMode(in.Network),
		Pid:      encodeNamespaceMode(in.PID),
		Ipc:      encodeNamespaceMode(in.IPC),
		TargetId: in.TargetID,
	}
	if in.User != nil {
		out.UsernsOptions = &v1.UserNamespace{
			Mode: encodeNamespaceMode(in.User.Mode),
			Uids: encodeIDMappings(in.User.UIDs),
			Gids: encodeIDMappings(in.User.GIDs),
		}
	}
	return out
}

func encodeNamespaceMode(in spec.NamespaceMode) v1.NamespaceMode {
	switch in {
	case spec.NamespaceContainer:
		return v1.NamespaceMode_CONTAINER
	case spec.NamespaceNode:
		return v1.NamespaceMode_NODE
	case spec.NamespaceTarget:
		return v1.NamespaceMode_TARGET
	}
	return v1.NamespaceMode_POD
}

func encodeIDMappings(in []spec.IDMapping) []*v1.IDMapping {
	var out []*v1.IDMapping
	for _, m := range in {
		out = append(out, &v1.IDMapping{ContainerId: m.ContainerID, HostId: m.HostID, Length: m.Length})
	}
	return out
}

// encodeTime gives nanoseconds since 1970, 0 for "not yet".
func encodeTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
