package cri

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestCheckpointCalls(t *testing.T) {
	rooms := &fakeRooms{}
	d := open(t, rooms)
	ctx := t.Context()
	if _, err := d.CheckpointContainer(ctx, &v1.CheckpointContainerRequest{ContainerId: "c", Location: "/x.tar", Timeout: 3}); err != nil {
		t.Fatal(err)
	}
	wantCall(t, rooms, "CheckpointContainer", "c", "/x.tar", 3*time.Second)
	if _, err := d.CheckpointPod(ctx, &v1.CheckpointPodRequest{PodSandboxId: "p", OutputPath: "/x", ContainerIds: []string{"a", "b"}}); err != nil {
		t.Fatal(err)
	}
	wantCall(t, rooms, "CheckpointPod", "p", "/x", []string{"a", "b"})
	pod := &v1.PodSandboxConfig{Metadata: &v1.PodSandboxMetadata{Name: "n", Namespace: "s", Uid: "u"}}
	container := &v1.ContainerConfig{Metadata: &v1.ContainerMetadata{Name: "web"}, Image: &v1.ImageSpec{Image: "i"}}
	got, err := d.RestorePod(ctx, &v1.RestorePodRequest{CheckpointPath: "/x", Config: pod, ContainerConfigs: []*v1.ContainerConfig{container}})
	if err != nil || got.PodSandboxId != "pod-1" || len(got.RestoredContainers) != 1 || got.RestoredContainers[0].Name != "web" || got.RestoredContainers[0].ContainerId != "c-1" {
		t.Fatalf("%v, %v", got, err)
	}
	call := rooms.calls[len(rooms.calls)-1].([]any)
	if p, ok := call[2].(*spec.Pod); !ok || call[1] != "/x" || p.Metadata.Name != "n" {
		t.Errorf("restore of %v", call)
	}
	for what, r := range map[string]*v1.RestorePodRequest{
		"no path":            {Config: pod, ContainerConfigs: []*v1.ContainerConfig{container}},
		"a relative path":    {CheckpointPath: "x", Config: pod, ContainerConfigs: []*v1.ContainerConfig{container}},
		"no pod":             {CheckpointPath: "/x", ContainerConfigs: []*v1.ContainerConfig{container}},
		"no containers":      {CheckpointPath: "/x", Config: pod},
		"an unknown handler": {CheckpointPath: "/x", Config: pod, RuntimeHandler: "gvisor", ContainerConfigs: []*v1.ContainerConfig{container}},
		"an option":          {CheckpointPath: "/x", Config: pod, Options: map[string]string{"x": "y"}, ContainerConfigs: []*v1.ContainerConfig{container}},
		"a bad container":    {CheckpointPath: "/x", Config: pod, ContainerConfigs: []*v1.ContainerConfig{{}}},
	} {
		before := len(rooms.calls)
		_, err := d.RestorePod(ctx, r)
		wantCode(t, what, err, codes.InvalidArgument)
		if len(rooms.calls) != before {
			t.Errorf("%s: the sandbox was asked", what)
		}
	}
}

func wantCall(t *testing.T, rooms *fakeRooms, want ...any) {
	t.Helper()
	if got := rooms.calls[len(rooms.calls)-1]; !reflect.DeepEqual(got, want) {
		t.Errorf("called %v, wanted %v", got, want)
	}
}
