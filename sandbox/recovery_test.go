package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// life is a pod's whole life; it returns at the first error.
func (d *daemon) life(pod *spec.Pod, container *spec.Container) error {
	ctx := d.t.Context()
	id, err := d.m.RunPod(ctx, pod)
	if err != nil {
		return err
	}
	c, err := d.m.CreateContainer(ctx, id, container)
	if err != nil {
		return err
	}
	if err := d.m.StartContainer(ctx, c); err != nil {
		return err
	}
	if _, err := d.m.ExecSync(ctx, c, []string{"true"}, 0); err != nil {
		return err
	}
	if err := d.m.StopContainer(ctx, c, time.Minute); err != nil {
		return err
	}
	if err := d.m.StopPod(ctx, id); err != nil {
		return err
	}
	return d.m.RemovePod(ctx, id)
}

// TestKillAtEveryOperation kills the daemon before each thing that it does to the
// world (each write of a record among them), and wants the next one to find or
// free everything, and to do the same work to its end.
func TestKillAtEveryOperation(t *testing.T) {
	pod, container := podConfig("web"), containerConfig("c")
	pod.Security.Namespaces.PID = spec.NamespacePod
	container.Security.Namespaces.PID = spec.NamespacePod
	for k := 1; ; k++ {
		if k > 200 {
			t.Fatal("no end in sight")
		}
		ended := false
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			w := newWorld(t)
			first := w.start()
			first.swept()
			first.mu.Lock()
			first.dieAt = len(first.ops) + k
			first.mu.Unlock()
			err := first.life(pod, container)
			first.mu.Lock()
			dead, ops := first.dead, first.ops
			first.mu.Unlock()
			if !dead {
				ended = true
				if err != nil {
					t.Errorf("whole life: %v", err)
				}
				return
			}
			t.Logf("killed before %q: %v", ops[len(ops)-1], err)
			second := w.start()
			second.settled()
			if len(second.m.Pods(PodFilter{})) > 1 || len(second.m.Containers(ContainerFilter{})) > 1 {
				t.Errorf("pods %v, containers %v", second.m.Pods(PodFilter{}), second.m.Containers(ContainerFilter{}))
			}
			// A client goes on: it removes what isn't ready, and repeats.
			for _, p := range second.m.Pods(PodFilter{}) {
				if p.State == PodNotReady {
					if err := second.m.RemovePod(t.Context(), p.ID); err != nil {
						t.Error(err)
					}
				}
			}
			again := *container
			for _, c := range second.m.Containers(ContainerFilter{}) {
				if c.State != ContainerCreated {
					again.Metadata.Attempt = 1
				}
			}
			if err := second.life(pod, &again); err != nil {
				t.Errorf("the same again: %v", err)
			}
			second.settled()
			if got := second.m.Pods(PodFilter{}); len(got) != 0 {
				t.Errorf("pods are left: %v", got)
			}
		})
		if ended || t.Failed() {
			return
		}
	}
}

func TestRunningContainersRunOn(t *testing.T) {
	w := newWorld(t)
	first := w.start()
	pod := first.runPod(podConfig("web"))
	running := first.create(pod, containerConfig("running"))
	first.begin(running)
	created := first.create(pod, containerConfig("created"))
	ends := first.create(pod, containerConfig("ends"))
	first.begin(ends)
	before, _ := first.m.Container(running)
	first.kill()
	w.mu.Lock()
	process := w.kept[ends]
	w.mu.Unlock()
	if err := process.kill(); err != nil {
		t.Fatal(err)
	}
	<-process.ended // while no daemon is there

	second := w.start()
	after, err := second.m.Container(running)
	if err != nil || after.State != ContainerRunning || after.PID != before.PID || !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("running container is %+v, %v", after, err)
	}
	if info, _ := second.m.Container(ends); info.State != ContainerExited || info.ExitCode != 137 || info.FinishedAt.IsZero() {
		t.Errorf("container that ended is %+v", info)
	}
	if _, containers, err := second.m.Pod(pod); err != nil || len(containers) != 3 {
		t.Errorf("the pod has %d containers, %v, want 3", len(containers), err)
	}
	if _, err := second.m.ExecSync(t.Context(), running, []string{"true"}, 0); err != nil {
		t.Errorf("exec: %v", err)
	}
	if second.runPod(podConfig("web")) != pod || second.create(pod, containerConfig("created")) != created {
		t.Error("repeated requests don't find what is there")
	}
	second.begin(created)
	second.settled()
	if err := second.m.StopContainer(t.Context(), running, time.Minute); err != nil {
		t.Error(err)
	}
	if info, _ := second.m.Container(running); info.ExitCode != 143 {
		t.Errorf("stopped container is %+v", info)
	}
	if err := second.m.RemovePod(t.Context(), pod); err != nil {
		t.Error(err)
	}
	second.settled()
}

// orphaned is a world with a pod and a running container, whose daemon was killed.
func orphaned(t *testing.T) (w *world, pod, container string) {
	t.Helper()
	w = newWorld(t)
	d := w.start()
	pod = d.runPod(podConfig("web"))
	container = d.create(pod, containerConfig("c"))
	d.begin(container)
	d.kill()
	return w, pod, container
}

func TestReboot(t *testing.T) {
	w, pod, id := orphaned(t)
	w.mu.Lock()
	for key, k := range w.kept { // the machine's end takes the processes, mounts and cgroups
		if k.pidfd != nil && kind(key) == "container" {
			_ = k.kill()
		}
	}
	clear(w.kept)
	clear(w.cgroups)
	clear(w.pins)
	w.boot = "boot 2"
	w.mu.Unlock()

	second := w.start()
	info, err := second.m.Container(id)
	if err != nil || info.State != ContainerExited || info.ExitCode != 255 || info.Reason != ReasonUnknown {
		t.Errorf("container is %+v, %v", info, err)
	}
	if info, _, _ := second.m.Pod(pod); info.State != PodNotReady {
		t.Errorf("pod is %s", info.State)
	}
	second.settled() // its address too is free
	if second.runPod(podConfig("web")) == pod {
		t.Error("the pod of before the reboot was returned")
	}
	if err := second.m.RemovePod(t.Context(), pod); err != nil {
		t.Error(err)
	}
	second.settled()
}

func TestKeeperLostEverything(t *testing.T) {
	w, pod, id := orphaned(t)
	w.mu.Lock()
	process := w.kept[id]
	clear(w.kept)
	w.mu.Unlock()
	defer func() { _ = process.kill() }()

	second := w.start()
	if info, _ := second.m.Container(id); info.State != ContainerExited || info.Reason != ReasonUnknown {
		t.Errorf("container is %+v", info)
	}
	if info, _, _ := second.m.Pod(pod); info.State != PodNotReady {
		t.Errorf("pod is %s", info.State)
	}
	second.settled()
}

func TestTornRecordsAreCleaned(t *testing.T) {
	// Each changes the lines of a ledger: the pod's, and its container's.
	for name, damage := range map[string]func(pod, container string) string{
		"pod": func(pod, container string) string { return pod[:len(pod)/2] + "\n" + container + "\n" },
		"pod of another version": func(pod, container string) string {
			return strings.Replace(pod, `"version":1`, `"version":99`, 1) + "\n" + container + "\n"
		},
		"pod is missing":    func(_, container string) string { return container + "\n" },
		"pod and container": func(_, container string) string { return strings.Repeat("\x00", 4096) + "\n" + container[:80] },
		"ledger":            func(_, _ string) string { return "" },
		"container":         func(pod, container string) string { return pod + "\n" + container[:len(container)/2] + "\n" },
	} {
		t.Run(name, func(t *testing.T) {
			w, pod, _ := orphaned(t)
			ledger := filepath.Join(w.dir, "pods", pod)
			data, err := os.ReadFile(ledger)
			if err != nil {
				t.Fatal(err)
			}
			lines, _ := lastLines(data)
			text := func(l line) string { return fmt.Sprintf("%s %s %s", l.word, l.id, l.record) }
			write(t, ledger, damage(text(lines[0]), text(lines[1])))
			second := w.start()
			if got := second.m.Containers(ContainerFilter{}); len(got) != 0 && name != "pod" && name != "pod of another version" && name != "pod is missing" {
				t.Errorf("containers are shown: %v", got)
			}
			second.eventually("pod is gone, or only its container", func() error {
				pods, containers := second.m.Pods(PodFilter{}), second.m.Containers(ContainerFilter{})
				if len(containers) != 0 || (len(pods) != 0) != (name == "container") {
					return fmt.Errorf("pods %v, containers %v", pods, containers)
				}
				return nil
			})
			second.settled()
			if name == "container" {
				second.begin(second.create(pod, containerConfig("c")))
			}
		})
	}
}

// A ledger that ends anywhere, as after a power loss, is the end of its pod or of its container, or of nothing; all
// that they had is freed.
func TestLedgerEndsAnywhere(t *testing.T) {
	const cuts = 60
	for i := range cuts {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			w, pod, _ := orphaned(t)
			ledger := filepath.Join(w.dir, "pods", pod)
			whole, err := os.ReadFile(ledger)
			if err != nil {
				t.Fatal(err)
			}
			write(t, ledger, string(whole[:len(whole)*i/cuts]))
			d := w.start()
			d.settled()
			for _, p := range d.m.Pods(PodFilter{}) {
				if p.ID != pod {
					t.Errorf("pod %s is another's", p.ID)
				}
			}
			d.clear()
			d.settled()
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	w.addresses["of a pod that is gone"] = true
	w.snapshots["of a container that is gone"] = true
	d := w.start()
	d.settled()
}
