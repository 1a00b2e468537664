package cri

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// decodeDetails decodes what stands below "info".
func decodeDetails(t *testing.T, info map[string]string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(info["info"]), &out); err != nil {
		t.Fatalf("%v: %q", err, info)
	}
	return out
}

func TestContainerDetails(t *testing.T) {
	rooms := &fakeRooms{
		containers: []*sandbox.ContainerInfo{{ID: "c", PodID: "p", PID: 42, Cgroup: "/kubepods/c", Config: &spec.Container{Security: spec.Security{Privileged: true}}}},
		details: &sandbox.ContainerDetails{
			Spec: &specs.Spec{Process: &specs.Process{Args: []string{"sh"}, Env: []string{"A=b"}}}, SnapshotKey: "c", Handler: "runc", Runtime: "/usr/bin/runc",
			Namespaces: map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "/proc/42/ns/net"},
			Times:      map[string][]sandbox.Moment{"start": {{What: "fork", At: 1500 * time.Nanosecond, Took: 2 * time.Microsecond}}},
		},
	}
	got, err := open(t, rooms).ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: "c", Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	info := decodeDetails(t, got.Info)
	for key, want := range map[string]any{
		"sandboxID": "p", "pid": 42.0, "snapshotKey": "c", "snapshotter": "overlay", "runtimeHandler": "runc", "runtimeType": "/usr/bin/runc",
		"cgroup": "/kubepods/c", "privileged": true, "namespaces": map[string]any{"network": "/proc/42/ns/net"},
		"timeline": map[string]any{"start": []any{map[string]any{"step": "fork", "atMicroseconds": 1.5, "tookMicroseconds": 2.0}}},
	} {
		if !reflect.DeepEqual(info[key], want) {
			t.Errorf("%s is %v, want %v", key, info[key], want)
		}
	}
	process, _ := info["runtimeSpec"].(map[string]any)["process"].(map[string]any)
	if !reflect.DeepEqual(process["args"], []any{"sh"}) || !reflect.DeepEqual(process["env"], []any{"A=b"}) {
		t.Errorf("process of the spec: %v", process)
	}
}

// What can't be built any more costs the status nothing else: crictl inspect always asks for all.
func TestContainerDetailsWithoutSpec(t *testing.T) {
	rooms := &fakeRooms{
		containers: []*sandbox.ContainerInfo{{ID: "c", PID: 42, Config: &spec.Container{}}},
		details:    &sandbox.ContainerDetails{SnapshotKey: "c", NoSpec: errors.New("device /dev/x is gone")},
	}
	got, err := open(t, rooms).ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: "c", Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	info := decodeDetails(t, got.Info)
	if info["pid"] != 42.0 || info["runtimeSpec"] != nil || info["noRuntimeSpec"] != "device /dev/x is gone" {
		t.Errorf("details %v", info)
	}
}

func TestPodDetails(t *testing.T) {
	rooms := &fakeRooms{
		pods: []*sandbox.PodInfo{{ID: "p", NetNS: "/run/netns/berth-p", Config: &spec.Pod{CgroupParent: "/kubepods", Hostname: "web"}}},
		podDetails: &sandbox.PodDetails{
			PID: 7, Handler: "berth", Files: "/run/berth/pods/p",
			Times: map[string][]sandbox.Moment{"run": {{What: "make namespaces", Took: time.Millisecond}}},
		},
	}
	got, err := open(t, rooms).PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: "p", Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	info := decodeDetails(t, got.Info)
	for key, want := range map[string]any{
		"pid": 7.0, "runtimeHandler": "berth", "runtimeType": "berth", "cgroupParent": "/kubepods", "networkNamespace": "/run/netns/berth-p",
		"hostname": "web", "files": "/run/berth/pods/p",
		"timeline": map[string]any{"run": []any{map[string]any{"step": "make namespaces", "atMicroseconds": 0.0, "tookMicroseconds": 1000.0}}},
	} {
		if !reflect.DeepEqual(info[key], want) {
			t.Errorf("%s is %v, want %v", key, info[key], want)
		}
	}
}
