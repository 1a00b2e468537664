package sandbox

import (
	"fmt"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// podConfig and containerConfig are valid configurations.
func podConfig(name string) *spec.Pod {
	return &spec.Pod{
		Metadata: spec.PodMetadata{Name: name, UID: "uid-" + name, Namespace: "default"},
		Hostname: name,
		Security: spec.PodSecurity{Namespaces: spec.Namespaces{PID: spec.NamespaceContainer}},
		Labels:   map[string]string{"app": name},
	}
}

func containerConfig(name string) *spec.Container {
	return &spec.Container{
		Metadata: spec.ContainerMetadata{Name: name},
		Image:    spec.ImageRef{Image: fakeImage.ID},
		Command:  []string{"serve"},
		Security: spec.Security{Namespaces: spec.Namespaces{PID: spec.NamespaceContainer}},
	}
}

// runPod, create and begin are steps of most tests.
func (d *daemon) runPod(config *spec.Pod) string {
	d.t.Helper()
	id, err := d.m.RunPod(d.t.Context(), config)
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

func (d *daemon) create(pod string, config *spec.Container) string {
	d.t.Helper()
	id, err := d.m.CreateContainer(d.t.Context(), pod, config)
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

func (d *daemon) begin(id string) {
	d.t.Helper()
	if err := d.m.StartContainer(d.t.Context(), id); err != nil {
		d.t.Fatal(err)
	}
}

// awaitState waits for a container's state.
func (d *daemon) awaitState(id string, want ContainerState) *ContainerInfo {
	d.t.Helper()
	var info *ContainerInfo
	d.eventually("container is "+want.String(), func() (err error) {
		if info, err = d.m.Container(id); err == nil && info.State != want {
			err = fmt.Errorf("it is %s (%s)", info.State, info.Message)
		}
		return err
	})
	return info
}
