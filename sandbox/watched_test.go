package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func (d *daemon) mustWatched(id string) *Watched {
	d.t.Helper()
	w, err := d.m.Watched(id)
	if err != nil {
		d.t.Fatal(err)
	}
	return w
}

func TestWatched(t *testing.T) {
	d := newWorld(t).start()
	config := podConfig("p")
	config.Labels = map[string]string{"io.kubernetes.pod.name": "said by kubelet"}
	pod := d.runPod(config)
	id := d.create(pod, containerConfig("c"))
	for _, unknown := range []string{"", "none", id[:20], pod[:20]} {
		if _, err := d.m.Watched(unknown); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", unknown, err)
		}
	}
	w := d.mustWatched(id)
	want := map[string]string{
		"io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": config.Metadata.Namespace, "io.kubernetes.pod.uid": config.Metadata.UID,
		"io.kubernetes.container.name": "c", "io.cri-containerd.kind": "container",
	}
	for key, value := range want {
		if w.Labels[key] != value {
			t.Errorf("%s is %q, want %q", key, w.Labels[key], value)
		}
	}
	if w.PID != 0 || w.Exited || w.Image != fakeImage.Tags[0] {
		t.Errorf("created: %+v", w)
	}
	d.begin(id)
	if w := d.mustWatched(id); w.PID == 0 || w.Exited {
		t.Errorf("running: %+v", w)
	}
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if w := d.mustWatched(id); w.PID != 0 || !w.Exited || w.ExitCode != 137 {
		t.Errorf("exited: %+v", w)
	}
	if w := d.mustWatched(pod); w.Labels["io.cri-containerd.kind"] != "sandbox" || w.Labels["io.kubernetes.pod.name"] != "said by kubelet" || w.PID != 0 || w.Exited {
		t.Errorf("pod: %+v", w)
	}
}

// A pod's cgroup is made for a container's process, anew for the next one, and goes with the pod.
func TestShownPods(t *testing.T) {
	w := newWorld(t)
	w.showPods = true
	d := w.start()
	pod := d.runPod(podConfig("p"))
	info, _, _ := d.m.Pod(pod)
	path, err := d.m.cfg.cgroup(info.Config, pod)
	if err != nil {
		t.Fatal(err)
	}
	shown := func(d *daemon, pid int) func() error {
		return func() error {
			d.mu.Lock()
			there := d.cgroups[path]
			d.mu.Unlock()
			if got := d.mustWatched(pod).PID; got != pid || there != (pid != 0) {
				return fmt.Errorf("process %d, wanted %d; the cgroup is there: %v", got, pid, there)
			}
			return nil
		}
	}
	d.eventually("no cgroup", shown(d, 0))
	one, two := d.create(pod, containerConfig("one")), d.create(pod, containerConfig("two"))
	d.begin(one)
	first := d.mustContainer(one).PID
	d.eventually("one's process", shown(d, first))
	d.begin(two)
	second := d.mustContainer(two).PID
	d.eventually("still one's process", shown(d, first))
	if err := d.m.StopContainer(t.Context(), one, 0); err != nil {
		t.Fatal(err)
	}
	d.eventually("two's process", shown(d, second))
	d.mu.Lock()
	made := len(slices.DeleteFunc(slices.Clone(d.ops), func(op string) bool { return op != "mark cgroup" }))
	d.mu.Unlock()
	if made != 2 {
		t.Errorf("the cgroup was made %d times", made)
	}
	d.kill()
	next := w.start()
	next.eventually("two's process, for the next daemon", shown(next, second))
	if err := next.m.StopPod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if w := next.mustWatched(pod); !w.Exited || w.PID != 0 {
		t.Errorf("a stopped pod: %+v", w)
	}
	next.mu.Lock()
	defer next.mu.Unlock()
	if next.cgroups[path] {
		t.Error("the cgroup of a stopped pod is left")
	}
}
