package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// watcher does what cAdvisor does: it finds a cgroup, asks whose it is, and reads the network of the process that it is told.
type watcher struct {
	t          *testing.T
	d          *harness.Daemon
	containers containers.ContainersClient
	tasks      tasks.TasksClient
}

func newWatcher(t *testing.T) *watcher {
	t.Helper()
	dir, err := os.MkdirTemp("", "watch") // a short path: unix(7)
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "c.sock")
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: fmt.Sprintf("\n[cadvisor]\nsocket = %q\n", socket)})
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return &watcher{t, d, containers.NewContainersClient(conn), tasks.NewTasksClient(conn)}
}

// cgroupInode is that of a cgroup's directory, 0 when there is none.
func cgroupInode(path string) uint64 {
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		var stat syscall.Stat_t
		if syscall.Stat(root+path, &stat) == nil {
			return stat.Ino
		}
	}
	return 0
}

// process is that of a pod or container; 0 when there is none now.
func (w *watcher) process(id string) int {
	got, err := w.tasks.Get(w.d.Context(), &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return 0
	}
	return int(got.Process.Pid)
}

func (w *watcher) labels(id string) map[string]string {
	w.t.Helper()
	got, err := w.containers.Get(w.d.Context(), &containers.GetContainerRequest{ID: id})
	check(w.t, err)
	return got.Container.Labels
}

// TestRootCadvisor: who watches cgroups learns from their names which pods and containers they are, and sees a pod's network
// also after the container is gone whose process that was taken from.
func TestRootCadvisor(t *testing.T) {
	w := newWatcher(t)
	d := w.d
	pod := d.RunPod(d.PodConfig("seen"))
	first := pod.Run(harness.ContainerConfig("first", harness.Sleep))
	second := pod.Run(harness.ContainerConfig("second", harness.Sleep))
	own := strings.Replace(first.Cgroup(), first.ID, pod.ID, 1)
	d.Eventually("the pod to have a cgroup", func() bool { return cgroupInode(own) != 0 })

	for id, wanted := range map[string]map[string]string{
		pod.ID:   {"io.cri-containerd.kind": "sandbox", "io.kubernetes.pod.name": "seen", "io.kubernetes.pod.namespace": "test"},
		first.ID: {"io.cri-containerd.kind": "container", "io.kubernetes.pod.name": "seen", "io.kubernetes.container.name": "first"},
	} {
		labels := w.labels(id)
		for key, value := range wanted {
			want(t, key, labels[key], value)
		}
	}
	if pid := w.process(second.ID); pid == 0 {
		t.Error("a running container has no process")
	}
	network := func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", w.process(pod.ID)))
		return err == nil && strings.Contains(string(text), "eth0:")
	}
	if !network() {
		t.Error("the pod's network isn't that of its process")
	}
	before := cgroupInode(own)
	first.Stop(0)
	d.Eventually("another process", func() bool { return w.process(pod.ID) == w.process(second.ID) && network() })
	if after := cgroupInode(own); after == 0 || after == before {
		t.Errorf("the cgroup that tells of it is %d, it was %d", after, before)
	}
	if _, err := w.tasks.Delete(d.Context(), &tasks.DeleteTaskRequest{ContainerID: second.ID}); err == nil {
		t.Error("a task was deleted")
	} else {
		wantError(t, err, codes.Unimplemented)
	}
	d.Kill()
	d.Restart()
	d.Eventually("the next daemon to answer", func() bool { return w.process(pod.ID) != 0 && network() })
	third := pod.Create(harness.ContainerConfig("third", harness.Sleep))
	want(t, "label before the start", w.labels(third.ID)["io.kubernetes.container.name"], "third")
	pod.Stop()
	want(t, "cgroup of a stopped pod", cgroupInode(own), 0)
	_, err := w.containers.Get(d.Context(), &containers.GetContainerRequest{ID: "none"})
	wantError(t, err, codes.NotFound)
}
