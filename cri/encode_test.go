package cri

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestEncodePodStatus(t *testing.T) {
	created := time.Unix(1700000000, 123)
	in := &sandbox.PodInfo{
		ID: "p1", State: sandbox.PodReady, CreatedAt: created,
		IPs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")},
		Config: &spec.Pod{
			Metadata:       spec.PodMetadata{Name: "web", UID: "u", Namespace: "default", Attempt: 3},
			Labels:         map[string]string{"a": "b"},
			Annotations:    map[string]string{"c": "d"},
			RuntimeHandler: "runsc",
			Security:       spec.PodSecurity{Namespaces: spec.Namespaces{PID: spec.NamespaceContainer}},
		},
	}
	want := &v1.PodSandboxStatus{
		Id: "p1", State: v1.PodSandboxState_SANDBOX_READY, CreatedAt: created.UnixNano(),
		Metadata:       &v1.PodSandboxMetadata{Name: "web", Uid: "u", Namespace: "default", Attempt: 3},
		Network:        &v1.PodSandboxNetworkStatus{Ip: "10.1.0.2", AdditionalIps: []*v1.PodIP{{Ip: "fd00::2"}}},
		Linux:          &v1.LinuxPodSandboxStatus{Namespaces: &v1.Namespace{Options: &v1.NamespaceOption{Pid: v1.NamespaceMode_CONTAINER}}},
		Labels:         map[string]string{"a": "b"},
		Annotations:    map[string]string{"c": "d"},
		RuntimeHandler: "runsc",
	}
	if diff := cmp.Diff(want, encodePodStatus(in), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// kubelet recreates a pod whose status says another network mode than it asked
// for, or that has no address of its own.
func TestEncodePodOfHostNetwork(t *testing.T) {
	got := encodePodStatus(&sandbox.PodInfo{Config: &spec.Pod{
		Security: spec.PodSecurity{Namespaces: spec.Namespaces{Network: spec.NamespaceNode}},
	}})
	if mode := got.Linux.Namespaces.Options.Network; mode != v1.NamespaceMode_NODE {
		t.Errorf("network mode %v, want NODE", mode)
	}
	if got.Network == nil || got.Network.Ip != "" {
		t.Errorf("network %v, want one without address", got.Network)
	}
}

func TestEncodeStates(t *testing.T) {
	for in, want := range map[sandbox.PodState]v1.PodSandboxState{
		sandbox.PodReady:    v1.PodSandboxState_SANDBOX_READY,
		sandbox.PodNotReady: v1.PodSandboxState_SANDBOX_NOTREADY,
	} {
		if got := encodePodState(in); got != want {
			t.Errorf("pod %v: %v, want %v", in, got, want)
		}
		if back := podStates[want]; back != in {
			t.Errorf("pod %v decodes to %v", want, back)
		}
	}
	for in, want := range map[sandbox.ContainerState]v1.ContainerState{
		sandbox.ContainerCreated: v1.ContainerState_CONTAINER_CREATED,
		sandbox.ContainerRunning: v1.ContainerState_CONTAINER_RUNNING,
		sandbox.ContainerExited:  v1.ContainerState_CONTAINER_EXITED,
		sandbox.ContainerUnknown: v1.ContainerState_CONTAINER_UNKNOWN,
	} {
		if got := encodeContainerState(in); got != want {
			t.Errorf("container %v: %v, want %v", in, got, want)
		}
		if back := containerStates[want]; back != in {
			t.Errorf("container %v decodes to %v", want, back)
		}
	}
}

func TestEncodeContainerStatus(t *testing.T) {
	created, started, finished := time.Unix(1, 0), time.Unix(2, 0), time.Unix(3, 0)
	in := &sandbox.ContainerInfo{
		ID: "c1", PodID: "p1", State: sandbox.ContainerExited,
		CreatedAt: created, StartedAt: started, FinishedAt: finished,
		ExitCode: 137, Reason: "OOMKilled", Message: "out of memory\nand of luck",
		ImageID: "sha256:abc", ImageName: "docker.io/library/web:1", ImageDigest: "docker.io/library/web@sha256:def",
		LogPath:    "/var/log/pods/x/web/0.log",
		User:       &spec.User{UID: 1000, GID: 100, Groups: []uint32{100, 200}},
		Resources:  &spec.Resources{CPUQuota: -1, Hugepages: []spec.HugepageLimit{{PageSize: "2MB"}}},
		StopSignal: 15,
		Config: &spec.Container{
			Metadata: spec.ContainerMetadata{Name: "web", Attempt: 2},
			Image:    spec.ImageRef{Image: "sha256:abc", UserSpecifiedImage: "web:1"},
			Labels:   map[string]string{"l": "1"}, Annotations: map[string]string{"n": "2"},
			Mounts: []spec.Mount{{ContainerPath: "/m", Image: &spec.ImageRef{Image: "sha256:def"}, Readonly: true}},
		},
	}
	want := &v1.ContainerStatus{
		Id: "c1", State: v1.ContainerState_CONTAINER_EXITED,
		Metadata:  &v1.ContainerMetadata{Name: "web", Attempt: 2},
		CreatedAt: created.UnixNano(), StartedAt: started.UnixNano(), FinishedAt: finished.UnixNano(),
		ExitCode: 137, Reason: "OOMKilled", Message: "out of memory; and of luck",
		Image:    &v1.ImageSpec{Image: "docker.io/library/web:1", UserSpecifiedImage: "web:1"},
		ImageRef: "docker.io/library/web@sha256:def", ImageId: "sha256:abc",
		Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"n": "2"},
		Mounts:  []*v1.Mount{{ContainerPath: "/m", Image: &v1.ImageSpec{Image: "sha256:def"}, Readonly: true}},
		LogPath: "/var/log/pods/x/web/0.log",
		Resources: &v1.ContainerResources{Linux: &v1.LinuxContainerResources{
			CpuQuota: -1, HugepageLimits: []*v1.HugepageLimit{{PageSize: "2MB"}}}},
		User:       &v1.ContainerUser{Linux: &v1.LinuxContainerUser{Uid: 1000, Gid: 100, SupplementalGroups: []int64{100, 200}}},
		StopSignal: v1.Signal_SIGNAL_SIGTERM,
	}
	if diff := cmp.Diff(want, encodeContainerStatus(in), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What a container that never ran, from an image without names, must still say.
func TestEncodeContainerStatusLeast(t *testing.T) {
	got := encodeContainerStatus(&sandbox.ContainerInfo{
		ImageID: "sha256:abc", Config: &spec.Container{Image: spec.ImageRef{Image: "sha256:abc"}},
	})
	if got.StartedAt != 0 || got.FinishedAt != 0 {
		t.Errorf("times %d and %d, want 0 for not yet", got.StartedAt, got.FinishedAt)
	}
	if got.ImageRef != "sha256:abc" || got.Image.Image != "sha256:abc" {
		t.Errorf("image_ref %q, image %q: both are required", got.ImageRef, got.Image.Image)
	}
	if got.Resources != nil || got.User != nil {
		t.Errorf("resources %v, user %v, want none", got.Resources, got.User)
	}
}

func TestEncodeImageUser(t *testing.T) {
	uid := func(n int64) *v1.Int64Value { return &v1.Int64Value{Value: n} }
	for in, want := range map[string]struct {
		uid  *v1.Int64Value
		name string
	}{
		"":          {nil, ""},
		"0":         {uid(0), ""},
		"1000":      {uid(1000), ""},
		"1000:1000": {uid(1000), ""},
		"1000:www":  {uid(1000), ""},
		"www":       {nil, "www"},
		"www:www":   {nil, "www"},
		":5":        {nil, ""},
	} {
		gotUID, gotName := encodeImageUser(in)
		if gotUID.GetValue() != want.uid.GetValue() || (gotUID == nil) != (want.uid == nil) || gotName != want.name {
			t.Errorf("%q: %v, %q, want %v, %q", in, gotUID, gotName, want.uid, want.name)
		}
	}
}

// What is encoded decodes to the same: mounts, resources and namespaces go back
// to the client that sent them.
func TestRoundTrip(t *testing.T) {
	mounts := make([]spec.Mount, 1)
	fillStruct(reflect.ValueOf(&mounts[0]).Elem())
	for _, p := range []spec.Propagation{spec.PropagationPrivate, spec.PropagationHostToContainer, spec.PropagationBidirectional} {
		mounts[0].Propagation = p
		back, err := decodeMounts("mounts", encodeMounts(mounts))
		if err != nil || !reflect.DeepEqual(back, mounts) {
			t.Errorf("mounts: %v\n%s", err, cmp.Diff(mounts, back))
		}
	}
	resources := &spec.Resources{}
	fillStruct(reflect.ValueOf(resources).Elem())
	if back := decodeResources(encodeResources(resources).Linux); !reflect.DeepEqual(back, resources) {
		t.Errorf("resources:\n%s", cmp.Diff(resources, back))
	}
	var namespaces spec.Namespaces
	fillStruct(reflect.ValueOf(&namespaces).Elem())
	for _, mode := range []spec.NamespaceMode{spec.NamespacePod, spec.NamespaceContainer, spec.NamespaceNode, spec.NamespaceTarget} {
		namespaces.Network, namespaces.PID, namespaces.IPC, namespaces.User.Mode = mode, mode, mode, mode
		back, err := decodeNamespaces("n", encodeNamespaces(namespaces))
		if err != nil || !reflect.DeepEqual(back, namespaces) {
			t.Errorf("namespaces %q: %v\n%s", mode, err, cmp.Diff(namespaces, back))
		}
	}
}
