package sandbox

import (
	"reflect"
	"testing"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// A started container's Spec is not kept: a thousand have 9 MB. Who asks for it gets the same again, less a device that is gone
// from the host since.
func TestSpecIsBuiltAgain(t *testing.T) {
	d := newWorld(t).start()
	config := containerConfig("web")
	config.Devices = []spec.Device{{HostPath: "/dev/null", ContainerPath: "/dev/x", Permissions: "rw"}}
	c := d.m.index.exactly(d.create(d.runPod(podConfig("web")), config))
	made := c.spec
	if made == nil || len(made.Linux.Devices) == 0 {
		t.Fatalf("the test's premise: a Spec with a device: %+v", made)
	}
	d.begin(c.id)
	if c.spec != nil {
		t.Error("it is kept")
	}
	builder := d.m.containers.builder
	if again, err := builder.specOf(c); err != nil || !reflect.DeepEqual(again, made) {
		t.Errorf("%v; %+v\nis not\n%+v", err, again, made)
	}
	if kept, err := builder.specOf(c); err != nil || kept != c.spec {
		t.Errorf("what somebody asked for is made anew each time: %v", err)
	}
	c.pod.mu.Lock()
	gone := *c.record.Config
	gone.Devices = append(gone.Devices, spec.Device{HostPath: "/dev/no-such-device", ContainerPath: "/dev/y", Permissions: "r"})
	c.record.Config, c.spec = &gone, nil
	c.pod.mu.Unlock()
	if again, err := builder.specOf(c); err != nil || !reflect.DeepEqual(again.Linux.Devices, made.Linux.Devices) {
		t.Errorf("with a device that is gone: %v, %+v", err, again)
	}
}
