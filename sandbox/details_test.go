package sandbox

import (
	"errors"
	"testing"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestContainerDetails(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	id := d.create(pod, containerConfig("c"))
	got, err := d.m.ContainerDetails(id[:12])
	if err != nil || got.Spec == nil || got.SnapshotKey != id || got.Handler != Handler || got.Namespaces != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(got.Times["create"]) == 0 || got.Times["start"] != nil {
		t.Errorf("times before the start: %v", got.Times)
	}
	d.begin(id)
	if got, err = d.m.ContainerDetails(id); err != nil || len(got.Times["create"]) == 0 || len(got.Times["start"]) == 0 || len(got.Namespaces) == 0 {
		t.Errorf("of a running one: %+v, %v", got, err)
	}
	if got, err := d.m.PodDetails(pod); err != nil || len(got.Times["run"]) == 0 || got.Files == "" {
		t.Errorf("of its pod: %+v, %v", got, err)
	}
	for _, err := range []error{second(d.m.ContainerDetails("unknown")), second(d.m.PodDetails("unknown"))} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
	}
}

// A container whose device was taken from the node is told of all the same.
func TestDetailsOfWhatIsGone(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	id := d.create(pod, containerConfig("c"))
	c, err := d.m.index.container(id)
	if err != nil {
		t.Fatal(err)
	}
	c.pod.mu.Lock()
	gone := *c.record.Config
	gone.Devices = []spec.Device{{HostPath: "/dev/no-such-device", ContainerPath: "/dev/x", Permissions: "r"}}
	c.record.Config, c.spec = &gone, nil // as another daemon made it, and before it was gone
	c.pod.mu.Unlock()
	got, err := d.m.ContainerDetails(id)
	if err != nil || got.Spec != nil || got.NoSpec == nil || got.SnapshotKey != id {
		t.Errorf("%+v, %v", got, err)
	}
}

func second[T any](_ T, err error) error { return err }
