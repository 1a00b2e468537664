package sandbox

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestPodLife(t *testing.T) {
	d := newWorld(t).start()
	id := d.runPod(podConfig("web"))
	info, _, err := d.m.Pod(id)
	if err != nil {
		t.Fatal(err)
	}
	if info.State != PodReady || len(id) != 64 || len(info.IPs) != 1 || info.IPs[0] != netip.MustParseAddr("10.1.2.3") {
		t.Errorf("pod is %+v", info)
	}
	if want := filepath.Join(d.dir, "netns", "berth-"+id); info.NetNS != want {
		t.Errorf("namespace at %s, wanted %s", info.NetNS, want)
	}
	if short, _, err := d.m.Pod(id[:12]); err != nil || short != info {
		t.Errorf("by the beginning of its id: %v, %v", short, err)
	}
	if err := d.m.StopPod(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if info, _, _ := d.m.Pod(id); info.State != PodNotReady {
		t.Errorf("stopped pod is %s", info.State)
	}
	d.settled()
	for range 2 {
		if err := d.m.StopPod(t.Context(), id); err != nil {
			t.Errorf("stop again: %v", err)
		}
	}
	for range 2 {
		if err := d.m.RemovePod(t.Context(), id); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if _, _, err := d.m.Pod(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed pod: %v", err)
	}
	d.settled()
}

func TestContainerLife(t *testing.T) {
	d := newWorld(t).start()
	config := podConfig("web")
	config.LogDirectory = filepath.Join(t.TempDir(), "logs")
	pod := d.runPod(config)
	c := containerConfig("server")
	c.LogPath, c.Security.RunAsUsername, c.Resources = "server/0.log", "web", &spec.Resources{MemoryLimit: 1 << 30}
	id := d.create(pod, c)
	info, err := d.m.Container(id)
	if err != nil {
		t.Fatal(err)
	}
	if info.State != ContainerCreated || info.PodID != pod || info.User.UID != 33 || info.User.GID != 34 || info.Resources.MemoryLimit != 1<<30 || info.StopSignal != 15 {
		t.Errorf("container is %+v", info)
	}
	if info.ImageID != fakeImage.ID || info.ImageName != fakeImage.Tags[0] || info.ImageDigest != fakeImage.Digests[0] {
		t.Errorf("image is %q %q %q", info.ImageID, info.ImageName, info.ImageDigest)
	}
	d.begin(id)
	info, _ = d.m.Container(id)
	if info.State != ContainerRunning || info.PID == 0 || info.StartedAt.IsZero() {
		t.Errorf("started container is %+v", info)
	}
	if _, err := os.Stat(info.LogPath); err != nil || info.LogPath != filepath.Join(config.LogDirectory, "server/0.log") {
		t.Errorf("log: %v", err)
	}
	if err := d.m.StartContainer(t.Context(), id); !errors.Is(err, ErrState) {
		t.Errorf("second start: %v", err)
	}
	if err := d.m.StopContainer(t.Context(), id, time.Minute); err != nil {
		t.Fatal(err)
	}
	info, _ = d.m.Container(id)
	if info.State != ContainerExited || info.ExitCode != 128+15 || info.Reason != ReasonError || info.FinishedAt.Before(info.StartedAt) || info.PID != 0 {
		t.Errorf("stopped container is %+v", info)
	}
	d.settled()
	for range 2 {
		if err := d.m.RemoveContainer(t.Context(), id); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(config.LogDirectory, "server/0.log")); err != nil {
		t.Errorf("the log did not stay: %v", err)
	}
	d.settled()
}

func TestUnknownIDs(t *testing.T) {
	d := newWorld(t).start()
	ctx := t.Context()
	for _, id := range []string{"", "nonesuch", strings.Repeat("a", 64)} {
		for what, err := range map[string]error{
			"stop pod": d.m.StopPod(ctx, id), "remove pod": d.m.RemovePod(ctx, id),
			"stop container": d.m.StopContainer(ctx, id, 0), "remove container": d.m.RemoveContainer(ctx, id),
		} {
			if err != nil {
				t.Errorf("%s %q: %v", what, id, err)
			}
		}
		_, _, pod := d.m.Pod(id)
		_, container := d.m.Container(id)
		_, create := d.m.CreateContainer(ctx, id, containerConfig("c"))
		_, exec := d.m.ExecSync(ctx, id, []string{"true"}, 0)
		for what, err := range map[string]error{"pod": pod, "container": container, "create": create, "exec": exec, "start": d.m.StartContainer(ctx, id)} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s %q: %v, wanted ErrNotFound", what, id, err)
			}
		}
	}
}

func TestExitCodesAndReasons(t *testing.T) {
	for _, c := range []struct {
		name    string
		command []string
		oom     bool
		code    int32
		reason  string
	}{
		{"completed", []string{"true"}, false, 0, ReasonCompleted},
		{"error", []string{"sh", "-c", "exit 3"}, false, 3, ReasonError},
		{"signal", []string{"sh", "-c", "kill -SEGV $$"}, false, 139, ReasonError},
		{"out of memory", []string{"sh", "-c", "kill -KILL $$"}, true, 137, ReasonOOMKilled},
		{"coped with a child's end", []string{"true"}, true, 0, ReasonCompleted},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newWorld(t).start()
			d.command = c.command
			id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
			info, _ := d.m.Container(id)
			d.mu.Lock()
			d.oom[info.Cgroup] = c.oom
			d.mu.Unlock()
			d.begin(id)
			info = d.awaitState(id, ContainerExited)
			if info.ExitCode != c.code || info.Reason != c.reason {
				t.Errorf("got %d %s, wanted %d %s", info.ExitCode, info.Reason, c.code, c.reason)
			}
			d.settled()
		})
	}
}

func TestWhatStatesRefuse(t *testing.T) {
	d := newWorld(t).start()
	ctx := t.Context()
	pod := d.runPod(podConfig("web"))
	created := d.create(pod, containerConfig("created"))
	if _, err := d.m.ExecSync(ctx, created, []string{"true"}, 0); !errors.Is(err, ErrState) {
		t.Errorf("exec in a created container: %v", err)
	}
	if err := d.m.StopContainer(ctx, created, 0); err != nil {
		t.Errorf("stop of a created container: %v", err)
	}
	if err := d.m.StopPod(ctx, pod); err != nil {
		t.Fatal(err)
	}
	if err := d.m.StartContainer(ctx, created); !errors.Is(err, ErrState) {
		t.Errorf("start in a stopped pod: %v", err)
	}
	if _, err := d.m.CreateContainer(ctx, pod, containerConfig("late")); !errors.Is(err, ErrState) {
		t.Errorf("create in a stopped pod: %v", err)
	}
	if err := d.m.RemovePod(ctx, pod); err != nil {
		t.Fatal(err)
	}
	d.settled()
}

func TestWhatIsInvalid(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	bad := func(change func(*spec.Container)) *spec.Container {
		c := containerConfig("c")
		change(c)
		return c
	}
	for name, c := range map[string]struct {
		config *spec.Container
		want   error
		text   string
	}{
		"no name":  {bad(func(c *spec.Container) { c.Metadata.Name = "" }), spec.ErrInvalid, "metadata.name"},
		"no image": {bad(func(c *spec.Container) { c.Image.Image = "docker.io/library/none:1" }), imagestore.ErrNotFound, "docker.io/library/none:1"},
		"no host path": {bad(func(c *spec.Container) {
			c.Mounts = []spec.Mount{{ContainerPath: "/data", HostPath: "/etc/passwd/nonesuch"}}
		}), spec.ErrInvalid, "mounts[0].host_path"},
		"no device": {bad(func(c *spec.Container) {
			c.Devices = []spec.Device{{ContainerPath: "/dev/x", HostPath: "/dev/nonesuch", Permissions: "r"}}
		}), spec.ErrInvalid, "devices"},
		"no user": {bad(func(c *spec.Container) { c.Security.RunAsUsername = "nobody-here" }), spec.ErrNoSuchUser, "nobody-here"},
		"no target": {bad(func(c *spec.Container) {
			c.Security.Namespaces = spec.Namespaces{PID: spec.NamespaceTarget, TargetID: strings.Repeat("a", 64)}
		}), spec.ErrInvalid, "target_id"},
		"no seccomp profile": {bad(func(c *spec.Container) {
			c.Security.Seccomp = &spec.SecurityProfile{Kind: spec.ProfileLocalhost, Localhost: "/nonesuch.json"}
		}), spec.ErrInvalid, "seccomp"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.m.CreateContainer(t.Context(), pod, c.config)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, wanted %v that names %s", err, c.want, c.text)
			}
			d.settled()
			if got := d.m.Containers(ContainerFilter{}); len(got) != 0 {
				t.Errorf("%d containers are left", len(got))
			}
		})
	}
	if _, err := d.m.RunPod(t.Context(), &spec.Pod{}); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("pod without metadata: %v", err)
	}
}

func TestRemoveOfAPodTakesItsContainers(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	d.begin(d.create(pod, containerConfig("running")))
	d.create(pod, containerConfig("created"))
	exited := d.create(pod, containerConfig("exited"))
	d.begin(exited)
	if err := d.m.StopContainer(t.Context(), exited, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.m.RemovePod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if got := d.m.Containers(ContainerFilter{}); len(got) != 0 {
		t.Errorf("%d containers are left", len(got))
	}
	d.settled()
}

func TestSharedPIDNamespace(t *testing.T) {
	d := newWorld(t).start()
	config := podConfig("web")
	config.Security.Namespaces.PID = spec.NamespacePod
	pod := d.runPod(config)
	c := containerConfig("c")
	c.Security.Namespaces.PID = spec.NamespacePod
	d.begin(d.create(pod, c))
	d.mu.Lock()
	pause := d.kept[pauseKey(pod)]
	d.mu.Unlock()
	if pause == nil {
		t.Fatal("no pause process")
	}
	d.settled()
	// Its end is the pod's.
	if err := pause.kill(); err != nil {
		t.Fatal(err)
	}
	d.eventually("pod is not ready", func() error {
		if info, _, err := d.m.Pod(pod); err != nil || info.State == PodReady {
			return errors.New("it is ready")
		}
		return nil
	})
	if err := d.m.StopPod(t.Context(), pod); err != nil {
		t.Error(err)
	}
	d.settled()
}

func (k *keptFake) kill() error { return newProcess(k.pid, k.pidfd).signal(killSignal) }

func TestNodeNamespacesNeedNothing(t *testing.T) {
	d := newWorld(t).start()
	config := podConfig("web")
	config.Hostname = ""
	config.Security.Namespaces = spec.Namespaces{Network: spec.NamespaceNode, IPC: spec.NamespaceNode, PID: spec.NamespaceNode}
	id := d.runPod(config)
	info, _, _ := d.m.Pod(id)
	if len(info.IPs) != 0 || info.NetNS != "" {
		t.Errorf("pod on the host's network is %+v", info)
	}
	d.mu.Lock()
	if len(d.addresses)+len(d.pins)+len(d.kept) != 0 {
		t.Errorf("it has %v %v %v", d.addresses, d.pins, d.kept)
	}
	d.mu.Unlock()
	if err := d.m.RemovePod(t.Context(), id); err != nil {
		t.Error(err)
	}
	d.settled()
}

func TestFinishedIsNotBeforeStarted(t *testing.T) {
	started := time.Unix(100, 500)
	for _, c := range []struct {
		name     string
		at, want time.Time
	}{
		{"after the start", started.Add(time.Second), started.Add(time.Second)},
		{"before its start was booked", started.Add(-time.Millisecond), started},
	} {
		rec := containerRecord{StartedAt: started}
		bookExit(&rec, keeper.Exit{Known: true, At: c.at}, false)
		if !rec.FinishedAt.Equal(c.want) {
			t.Errorf("%s: finished at %v, wanted %v", c.name, rec.FinishedAt, c.want)
		}
	}
}
