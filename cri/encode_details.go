package cri

import (
	"path"

	"github.com/opencontainers/image-spec/identity"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox"
)

// What crictl's inspect commands show below "info", by the keys that containerd and CRI-O have for it: scripts look for
// .info.pid and .info.runtimeSpec. CRI leaves all of it to the runtime ("extra information of the …, to be
// returned in the verbose mode").

// containerDetails is that of a container. As with the others, the environment is in the spec.
type containerDetails struct {
	SandboxID      string                              `json:"sandboxID"`
	PID            int                                 `json:"pid"`
	SnapshotKey    string                              `json:"snapshotKey"`
	Snapshotter    string                              `json:"snapshotter"`
	RuntimeHandler string                              `json:"runtimeHandler"`
	RuntimeType    string                              `json:"runtimeType"` // the path of an OCI runtime, or "berth"
	Cgroup         string                              `json:"cgroup"`
	Namespaces     map[specs.LinuxNamespaceType]string `json:"namespaces,omitempty"`
	Privileged     bool                                `json:"privileged"`
	Timeline       map[string][]timelineEntry          `json:"timeline,omitempty"`
	RuntimeSpec    *specs.Spec                         `json:"runtimeSpec"`
	NoRuntimeSpec  string                              `json:"noRuntimeSpec,omitempty"` // why there is none
}

// podDetails is that of a pod.
type podDetails struct {
	PID            int                                 `json:"pid"` // 0: no process belongs to the pod itself
	RuntimeHandler string                              `json:"runtimeHandler"`
	RuntimeType    string                              `json:"runtimeType"`
	CgroupParent   string                              `json:"cgroupParent"`
	NetNS          string                              `json:"networkNamespace"` // "": the host's
	Namespaces     map[specs.LinuxNamespaceType]string `json:"namespaces,omitempty"`
	Hostname       string                              `json:"hostname"`
	Files          string                              `json:"files"`
	LogDirectory   string                              `json:"logDirectory,omitempty"`
	Sysctls        map[string]string                   `json:"sysctls,omitempty"`
	Timeline       map[string][]timelineEntry          `json:"timeline,omitempty"`
}

// timelineEntry is one thing that was done: when, since the beginning, and for how long, in microseconds.
type timelineEntry struct {
	Step string  `json:"step"`
	At   float64 `json:"atMicroseconds"`
	Took float64 `json:"tookMicroseconds"`
}

const snapshotter = "overlay"

func encodeContainerDetails(in *sandbox.ContainerInfo, d *sandbox.ContainerDetails) containerDetails {
	out := containerDetails{
		SandboxID: in.PodID, PID: in.PID, SnapshotKey: d.SnapshotKey, Snapshotter: snapshotter,
		RuntimeHandler: d.Handler, RuntimeType: encodeRuntimeType(d.Runtime), Cgroup: in.Cgroup, Namespaces: d.Namespaces,
		Privileged: in.Config.Security.Privileged, Timeline: encodeTimeline(d.Times), RuntimeSpec: d.Spec,
	}
	if d.NoSpec != nil {
		out.NoRuntimeSpec = d.NoSpec.Error()
	}
	return out
}

func encodePodDetails(in *sandbox.PodInfo, d *sandbox.PodDetails) podDetails {
	return podDetails{
		PID: d.PID, RuntimeHandler: d.Handler, RuntimeType: encodeRuntimeType(d.Runtime), CgroupParent: in.Config.CgroupParent,
		NetNS: in.NetNS, Namespaces: d.Namespaces, Hostname: in.Config.Hostname, Files: d.Files, LogDirectory: in.Config.LogDirectory,
		Sysctls: in.Config.Sysctls, Timeline: encodeTimeline(d.Times),
	}
}

func encodeRuntimeType(executable string) string {
	if executable == "" {
		return RuntimeName
	}
	return path.Clean(executable)
}

func encodeTimeline(in map[string][]sandbox.Moment) map[string][]timelineEntry {
	out := make(map[string][]timelineEntry, len(in))
	for what, moments := range in {
		for _, m := range moments {
			out[what] = append(out[what], timelineEntry{m.What, float64(m.At.Nanoseconds()) / 1e3, float64(m.Took.Nanoseconds()) / 1e3})
		}
	}
	return out
}

// encodeImageDetails is that of an image.
func encodeImageDetails(in *imagestore.Image) map[string]any {
	return map[string]any{"chainID": identity.ChainID(in.Config.RootFS.DiffIDs), "imageSpec": in.Config}
}
