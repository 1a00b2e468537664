package cri

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// unread lists the fields of requests that have no effect, each with its reason.
// A field of CRI that is neither here nor changes what the rooms are asked, or
// what the client is told, fails TestRequestFields.
var unread = map[string]string{
	"PodSandboxConfig.windows": "for Windows nodes",
	"ContainerConfig.windows":  "for Windows nodes",

	"LinuxSandboxSecurityContext.seccomp_profile_path":   "deprecated, counts only without seccomp: TestDecodeProfile",
	"LinuxContainerSecurityContext.seccomp_profile_path": "deprecated, counts only without seccomp: TestDecodeProfile",
	"LinuxContainerSecurityContext.apparmor_profile":     "deprecated, counts only without apparmor: TestDecodeProfile",

	"ImageSpec.image_ref": "kubelet's own note for its pod status, image says what to use",

	"UpdateContainerResourcesRequest.annotations": "CRI leaves their meaning to runtimes; berth gives them none",
	"UpdateContainerResourcesRequest.windows":     "for Windows nodes",

	"CreateContainerRequest.sandbox_config": "what RunPodSandbox got is on record",
	"PullImageRequest.sandbox_config":       "images belong to the node, not to a pod",
	"VersionRequest.version":                "kubelet's version of an API that has had one",
}

// unreadIn lists such fields that count in some requests and not in others.
var unreadIn = map[reflect.Type]map[string]string{
	reflect.TypeFor[*v1.PullImageRequest]():   imageByName,
	reflect.TypeFor[*v1.ListImagesRequest]():  imageByName,
	reflect.TypeFor[*v1.ImageStatusRequest](): imageByName,
	reflect.TypeFor[*v1.RemoveImageRequest](): imageByName,
}

var imageByName = map[string]string{
	"ImageSpec.annotations":          "the node's platform chooses from an index",
	"ImageSpec.user_specified_image": "image says what to use",
	"ImageSpec.runtime_handler":      "one store of images for all handlers; an unknown one is refused: TestUnknownHandler",
}

func TestRequestFields(t *testing.T) {
	// What each request is, so that its filled form is a good one.
	good := []proto.Message{
		&v1.VersionRequest{}, &v1.StatusRequest{}, &v1.RuntimeConfigRequest{}, &v1.UpdateRuntimeConfigRequest{},
		&v1.RunPodSandboxRequest{}, &v1.StopPodSandboxRequest{}, &v1.RemovePodSandboxRequest{},
		&v1.PodSandboxStatusRequest{}, &v1.ListPodSandboxRequest{},
		&v1.CreateContainerRequest{}, &v1.StartContainerRequest{}, &v1.StopContainerRequest{},
		&v1.RemoveContainerRequest{}, &v1.ContainerStatusRequest{}, &v1.ListContainersRequest{}, &v1.ExecSyncRequest{},
		&v1.PullImageRequest{}, &v1.ListImagesRequest{}, &v1.ImageStatusRequest{}, &v1.RemoveImageRequest{},
		&v1.ImageFsInfoRequest{}, &v1.UpdateContainerResourcesRequest{}, &v1.UpdatePodSandboxResourcesRequest{},
		&v1.ContainerStatsRequest{}, &v1.ListContainerStatsRequest{}, &v1.PodSandboxStatsRequest{}, &v1.ListPodSandboxStatsRequest{},
		&v1.ListMetricDescriptorsRequest{}, &v1.ListPodSandboxMetricsRequest{},
	}
	seen := map[string]bool{}
	for _, req := range good {
		t.Run(string(req.ProtoReflect().Descriptor().Name()), func(t *testing.T) {
			fillMessage(req.ProtoReflect())
			amend(req)
			before, err := observe(t, req)
			if err != nil {
				t.Fatalf("the filled request: %v", err)
			}
			skip := func(name string) bool {
				_, here := unreadIn[reflect.TypeOf(req)][name]
				_, anywhere := unread[name]
				if anywhere {
					seen[name] = true
				}
				return here || anywhere
			}
			for _, l := range leaves(req.ProtoReflect(), skip) {
				after, err := observe(t, changed(req, l))
				if err == nil && reflect.DeepEqual(before, after) {
					t.Errorf("%s (%s) has no effect, and isn't listed as such", l.path, l.name)
				}
			}
		})
	}
	for name := range unread {
		if !seen[name] {
			t.Errorf("unread lists %s, which no request has", name)
		}
	}
}

// amend gives the fields of a filled request values that make sense.
func amend(req proto.Message) {
	security := func(profiles ...*v1.SecurityProfile) {
		for _, p := range profiles {
			p.ProfileType = v1.SecurityProfile_Localhost
		}
	}
	switch r := req.(type) {
	case *v1.RunPodSandboxRequest:
		security(r.Config.Linux.SecurityContext.Seccomp, r.Config.Linux.SecurityContext.Apparmor)
	case *v1.CreateContainerRequest:
		security(r.Config.Linux.SecurityContext.Seccomp, r.Config.Linux.SecurityContext.Apparmor)
	case *v1.UpdateRuntimeConfigRequest:
		r.RuntimeConfig.NetworkConfig.PodCidr = "10.1.0.0/16"
	}
}

// observation is all that a request does: what the rooms were asked, and the answer.
type observation struct {
	Calls    []any
	Response proto.Message
}

// observe sends a request past the network, for only the door itself counts here.
func observe(t *testing.T, req proto.Message) (observation, error) {
	t.Helper()
	rooms := fullRooms()
	runtime, images := services(rooms)
	var method reflect.Value
	name := string(req.ProtoReflect().Descriptor().Name())
	name = name[:len(name)-len("Request")]
	if method = reflect.ValueOf(runtime).MethodByName(name); !method.IsValid() {
		method = reflect.ValueOf(images).MethodByName(name)
	}
	answer, err := (&lister{rooms, rooms}).unary(t.Context(), req, nil, func(ctx context.Context, req any) (any, error) {
		results := method.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(req)})
		err, _ := results[1].Interface().(error)
		return results[0].Interface(), err
	})
	if err != nil {
		return observation{}, err
	}
	// As its reader has it: lists go out encoded.
	wire, err := newCodec().Marshal(answer)
	response := reflect.New(method.Type().Out(0).Elem()).Interface().(proto.Message)
	if err := errors.Join(err, proto.Unmarshal(wire.Materialize(), response)); err != nil {
		t.Fatal(err)
	}
	return observation{rooms.calls, response}, nil
}

// fullRooms has a pod, a container and an image with every field set, under the
// name that a filled request asks for.
func fullRooms() *fakeRooms {
	pod, container, image := &sandbox.PodInfo{}, &sandbox.ContainerInfo{}, &imagestore.Image{}
	fillStruct(reflect.ValueOf(container).Elem())
	fillStruct(reflect.ValueOf(pod).Elem())
	fillStruct(reflect.ValueOf(image).Elem())
	pod.IPs = []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}
	return &fakeRooms{
		pods: []*sandbox.PodInfo{pod}, containers: []*sandbox.ContainerInfo{container}, images: []*imagestore.Image{image},
		exec:     sandbox.ExecResult{Stdout: []byte("out"), Stderr: []byte("err"), ExitCode: 3},
		driver:   "cgroupfs",
		measured: measured(pod, container),
	}
}

func services(rooms *fakeRooms) (*runtimeService, *imageService) {
	now := func() time.Time { return time.Unix(1700000001, 0) }
	return newRuntimeService(Config{
			Version:  "1.2.3",
			Handlers: Handlers{{Name: "berth", RecursiveReadOnly: true, UserNamespaces: true}, {Name: "text"}},
			Features: Features{SupplementalGroupsPolicy: true, UserNamespacesHostNetwork: true, MountOptions: true},
			Info:     func() map[string]any { return map[string]any{"config": "text"} },
		}, Parts{Pods: rooms, Containers: rooms, Node: rooms, Stats: rooms, Checkpoints: rooms}, now, context.Background()),
		&imageService{handlers: Handlers{{Name: "text"}}, images: fakeImages{rooms}, now: now}
}

// unset lists the fields of responses that stay empty, each with its reason.
var unset = map[string]string{
	"ContainerResources.windows":         "for Windows nodes",
	"ImageSpec.image_ref":                "kubelet's own note for its pod status",
	"Image.username":                     "and uid exclude each other: TestEncodeImageUser",
	"Image.uid":                          "and username exclude each other: TestEncodeImageUser",
	"Int64Value.value":                   "only below Image.uid",
	"PodSandboxStats.windows":            "for Windows nodes",
	"Metric.metric_type":                 "enum: TestMetrics",
	"PodSandboxStatusResponse.timestamp": "only where it is asked for: TestPodStatus",

	// Enums whose one value of a full sample is CRI's zero: the tables of
	// TestEncodeStates and TestEncodeNamespaces have all values.
	"PodSandbox.state":        "enum",
	"PodSandboxStatus.state":  "enum",
	"Container.state":         "enum",
	"ContainerStatus.state":   "enum",
	"Mount.propagation":       "enum",
	"NamespaceOption.network": "enum",
	"NamespaceOption.pid":     "enum",
	"NamespaceOption.ipc":     "enum",
	"UserNamespace.mode":      "enum",
}

func TestResponseFields(t *testing.T) {
	set, all := map[string]bool{}, map[string]bool{}
	skip := func(name string) bool { _, ok := unset[name]; return ok }
	for _, req := range []proto.Message{
		&v1.VersionRequest{}, &v1.StatusRequest{Verbose: true}, &v1.RuntimeConfigRequest{},
		&v1.RunPodSandboxRequest{Config: &v1.PodSandboxConfig{Metadata: &v1.PodSandboxMetadata{}}},
		&v1.PodSandboxStatusRequest{PodSandboxId: "text", Verbose: true}, &v1.ListPodSandboxRequest{},
		&v1.CreateContainerRequest{PodSandboxId: "text", Config: &v1.ContainerConfig{
			Metadata: &v1.ContainerMetadata{}, Image: &v1.ImageSpec{}}},
		&v1.ContainerStatusRequest{ContainerId: "text", Verbose: true}, &v1.ListContainersRequest{},
		&v1.ExecSyncRequest{ContainerId: "text", Cmd: []string{"true"}},
		&v1.PullImageRequest{Image: &v1.ImageSpec{Image: "text"}}, &v1.ListImagesRequest{},
		&v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: "text"}, Verbose: true}, &v1.ImageFsInfoRequest{},
		&v1.ContainerStatsRequest{ContainerId: "text"}, &v1.ListContainerStatsRequest{},
		&v1.PodSandboxStatsRequest{PodSandboxId: "text"}, &v1.ListPodSandboxStatsRequest{},
		&v1.ListMetricDescriptorsRequest{}, &v1.ListPodSandboxMetricsRequest{},
	} {
		got, err := observe(t, req)
		if err != nil {
			t.Fatalf("%T: %v", req, err)
		}
		populated(got.Response.ProtoReflect(), set)
		allFields(got.Response.ProtoReflect().Descriptor(), skip, all)
	}
	// A condition has a reason and a message when it is false.
	populated(encodeNetworkCondition(sandbox.Readiness{Network: context.Canceled}).ProtoReflect(), set)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !set[name] {
			t.Errorf("%s stays empty, and isn't listed as such", name)
		}
	}
}
