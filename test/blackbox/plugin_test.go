package blackbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// plugin is one of the Node Resource Interface, in the test's own process.
type plugin struct {
	stub   stub.Stub
	synced chan struct{} // closed when it was shown what there is

	mu     sync.Mutex
	steps  []string                                 // what it was told
	shown  []string                                 // what it was shown when it joined: ids
	refuse string                                   // the step that it refuses
	during func(step string)                        // called while it is asked
	adjust *api.ContainerAdjustment                 // of containers that are made
	update func(*api.Container) *api.LinuxResources // of containers that are updated
}

// told notes a step, and answers.
func (p *plugin) told(step, name string) error {
	p.mu.Lock()
	p.steps = append(p.steps, step+" "+name)
	during, refuse := p.during, p.refuse
	p.mu.Unlock()
	if during != nil {
		during(step)
	}
	if step == refuse {
		return errors.New("not on this node")
	}
	return nil
}

func (p *plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pod := range pods {
		p.shown = append(p.shown, pod.Id)
	}
	for _, c := range containers {
		p.shown = append(p.shown, c.Id)
	}
	close(p.synced)
	return nil, nil
}

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.told("run", pod.Name)
}
func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.told("stop", pod.Name)
}
func (p *plugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.told("remove", pod.Name)
}
func (p *plugin) UpdatePodSandbox(_ context.Context, pod *api.PodSandbox, _, r *api.LinuxResources) error {
	return p.told("update", fmt.Sprintf("%s %d", pod.Name, r.GetCpu().GetShares().GetValue()))
}
func (p *plugin) PostUpdatePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.told("updated", fmt.Sprintf("%s %d", pod.Name, pod.GetLinux().GetPodResources().GetCpu().GetShares().GetValue()))
}
func (p *plugin) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	err := p.told("create", c.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.adjust, nil, err
}
func (p *plugin) PostCreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.told("created", c.Name)
}
func (p *plugin) StartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.told("start", c.Name)
}
func (p *plugin) PostStartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.told("started", fmt.Sprintf("%s %v", c.Name, c.Pid > 0))
}
func (p *plugin) UpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container, _ *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	err := p.told("update", c.Name)
	if p.update == nil {
		return nil, err
	}
	return []*api.ContainerUpdate{{ContainerId: c.Id, Linux: &api.LinuxContainerUpdate{Resources: p.update(c)}}}, err
}
func (p *plugin) PostUpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.told("updated", c.Name)
}
func (p *plugin) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	return nil, p.told("stop", fmt.Sprintf("%s %d", c.Name, c.ExitCode))
}
func (p *plugin) RemoveContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	return p.told("remove", c.Name)
}

// set changes how the plugin answers.
func (p *plugin) set(refuse string, during func(string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse, p.during, p.steps = refuse, during, nil
}

func (p *plugin) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.steps)
}

// plugged runs a daemon that lets plugins in.
func plugged(t *testing.T) (*harness.Daemon, string) {
	t.Helper()
	// A path below the daemon's directory is not known before it runs.
	socket := t.TempDir() + "/nri.sock"
	return harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: fmt.Sprintf("[nri]\nsocket = %q\n", socket)}), socket
}

// join connects a plugin, and waits until it has been shown what there is.
func join(t *testing.T, socket string, p *plugin) {
	t.Helper()
	p.synced = make(chan struct{})
	s, err := stub.New(p, stub.WithSocketPath(socket), stub.WithPluginName("test"), stub.WithPluginIdx("10"))
	check(t, err)
	p.stub = s
	check(t, s.Start(t.Context()))
	t.Cleanup(s.Stop)
	select { // no step is done then until it is one of those that are told
	case <-p.synced:
	case <-time.After(10 * time.Second):
		t.Fatal("the plugin was not shown anything")
	}
}

// wantSteps waits until the plugin was told these.
func wantSteps(t *testing.T, d *harness.Daemon, p *plugin, steps ...string) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for len(p.seen()) < len(steps) && time.Now().Before(end) {
		time.Sleep(10 * time.Millisecond)
	}
	if got := p.seen(); !slices.Equal(got, steps) {
		t.Errorf("the plugin was told\n%q, wanted\n%q", got, steps)
	}
}

// TestRootPluginSteps: a plugin is told of each step, in its order; a container that ends by itself is one that stops.
func TestRootPluginSteps(t *testing.T) {
	d, socket := plugged(t)
	p := &plugin{}
	join(t, socket, p)
	eager := d.RunPod(harness.OnHostNetwork(d.PodConfig("pod")))
	p.set("", nil)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("steps")))
	short := pod.Run(harness.ContainerConfig("short", "exit 3"))
	short.Wait()
	wantSteps(t, d, p, "run steps", "create short", "created short", "start short", "started short true", "stop short 3")
	long := pod.Run(harness.ContainerConfig("long", harness.Sleep))
	long.Stop(0)
	short.Remove()
	pod.Remove()
	wantSteps(t, d, p, "run steps", "create short", "created short", "start short", "started short true", "stop short 3",
		"create long", "created long", "start long", "started long true", "stop long 137", "remove short", "stop steps", "remove long", "remove steps")
	p.set("", nil)
	_, err := d.Runtime.UpdatePodSandboxResources(d.Context(), &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: eager.ID, Resources: &cri.LinuxContainerResources{CpuShares: 222}})
	check(t, err)
	wantSteps(t, d, p, "update pod 222", "updated pod 222")
	p.set("", nil)
	eager.Remove()
	wantSteps(t, d, p, "stop pod", "remove pod")
}

// TestRootPluginSeesFirst: while a plugin is asked, nobody sees what is being made; what it refuses is undone, and made
// when it is asked for again.
func TestRootPluginSeesFirst(t *testing.T) {
	d, socket := plugged(t)
	p := &plugin{}
	join(t, socket, p)
	var early []string
	look := func(step string) {
		pods, err := d.Runtime.ListPodSandbox(d.Context(), &cri.ListPodSandboxRequest{})
		check(t, err)
		containers, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{})
		check(t, err)
		if step == "run" && len(pods.Items) > 0 || step == "create" && len(containers.Containers) > 0 {
			early = append(early, step)
		}
	}
	p.set("run", look)
	config := harness.OnHostNetwork(d.PodConfig("refused"))
	_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
	wantError(t, err, codes.FailedPrecondition, "not on this node")
	wantSteps(t, d, p, "run refused", "remove refused")
	p.set("create", look)
	pod := d.RunPod(config)
	wantError(t, tryCreate(d, pod, harness.ContainerConfig("c", harness.Sleep)), codes.FailedPrecondition, "not on this node")
	wantSteps(t, d, p, "run refused", "create c", "remove c")
	p.set("start", nil)
	c := pod.Create(harness.ContainerConfig("c", harness.Sleep))
	_, err = d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
	wantError(t, err, codes.FailedPrecondition, "not on this node")
	want(t, "reason", c.Status().Reason, "StartError")
	wantSteps(t, d, p, "create c", "created c", "start c", "stop c 0")
	c.Remove()
	p.set("update", nil)
	again := harness.ContainerConfig("c", harness.Sleep)
	again.Metadata.Attempt = 1
	c = pod.Run(again)
	_, err = d.Runtime.UpdateContainerResources(d.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: c.ID, Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}})
	wantError(t, err, codes.FailedPrecondition, "not on this node")
	if len(early) > 0 {
		t.Errorf("seen while the plugin was asked: %q", early)
	}
}

// TestRootPluginAdjusts: what a plugin changes is there, for execs too, and after the daemon's end.
func TestRootPluginAdjusts(t *testing.T) {
	d, socket := plugged(t)
	p := &plugin{adjust: &api.ContainerAdjustment{}, update: func(*api.Container) *api.LinuxResources {
		return &api.LinuxResources{Memory: &api.LinuxMemory{Limit: api.Int64(96 << 20)}}
	}}
	p.adjust.AddEnv("ADDED", "yes")
	p.adjust.AddEnv("CHANGED", "new")
	p.adjust.AddAnnotation("note", "seen")
	p.adjust.AddMount(&api.Mount{Destination: "/of-plugin", Source: d.Dir, Type: "bind", Options: []string{"rbind", "ro"}})
	p.adjust.AddDevice(&api.LinuxDevice{Path: "/dev/spare", Type: "c", Major: 1, Minor: 5, FileMode: api.FileMode(uint32(0o666))})
	p.adjust.AddRlimit("RLIMIT_NOFILE", 512, 512)
	p.adjust.SetLinuxMemoryLimit(48 << 20)
	p.adjust.SetLinuxCPUShares(321)
	mark := d.Dir + "/hook-ran"
	p.adjust.AddHooks(&api.Hooks{CreateRuntime: []*api.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat > " + mark}}}})
	join(t, socket, p)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("adjusted")))
	config := harness.ContainerConfig("c", `echo $ADDED $CHANGED; ulimit -n; exec sleep 1000`)
	config.Envs = []*cri.KeyValue{{Key: "CHANGED", Value: []byte("old")}}
	c := pod.Run(config)
	d.Eventually("the output", func() bool { return strings.Count(c.Output("stdout"), "\n") == 2 })
	want(t, "what the container sees", c.Output("stdout"), "yes new\n512\n")
	want(t, "mount", c.Exec("ls -d /of-plugin/root && touch /of-plugin/x 2>&1 || true"), "/of-plugin/root\ntouch: /of-plugin/x: Read-only file system")
	want(t, "device", c.Exec("head -c 2 /dev/spare | od -An -tx1"), "00 00")
	want(t, "memory limit", c.Limit("memory/memory.limit_in_bytes", "memory.max"), "50331648")
	if _, err := d.Runtime.ContainerStatus(d.Context(), &cri.ContainerStatusRequest{ContainerId: c.ID}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the hook did not run: %v", err)
	}
	_, err := d.Runtime.UpdateContainerResources(d.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: c.ID, Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}})
	check(t, err)
	want(t, "updated limit", c.Limit("memory/memory.limit_in_bytes", "memory.max"), "100663296")
	failed, err := p.stub.UpdateContainers([]*api.ContainerUpdate{{ContainerId: c.ID, Linux: &api.LinuxContainerUpdate{
		Resources: &api.LinuxResources{Memory: &api.LinuxMemory{Limit: api.Int64(80 << 20)}}}}})
	if err != nil || len(failed) > 0 {
		t.Errorf("unasked update: %v, %v", failed, err)
	}
	want(t, "limit of an unasked update", c.Limit("memory/memory.limit_in_bytes", "memory.max"), "83886080")
	d.Kill()
	d.Restart()
	want(t, "environment of an exec after a restart", c.Exec("echo $ADDED"), "yes")

	late := &plugin{adjust: &api.ContainerAdjustment{}}
	late.adjust.SetLinuxCgroupsPath("/elsewhere")
	join(t, socket, late)
	if !slices.Contains(late.shown, pod.ID) || !slices.Contains(late.shown, c.ID) {
		t.Errorf("the late plugin was shown %q", late.shown)
	}
	wantError(t, tryCreate(d, pod, harness.ContainerConfig("moved", "true")), codes.FailedPrecondition, "cgroups path")
}

// TestRootPluginJoins: plugins that join while pods come and go are shown each container, or told of its creation, and
// never neither.
func TestRootPluginJoins(t *testing.T) {
	d, socket := plugged(t)
	const pods, containers = 3, 12
	var wg sync.WaitGroup
	for i := range pods {
		pod := d.RunPod(harness.OnHostNetwork(d.PodConfig(fmt.Sprint("p", i))))
		wg.Go(func() {
			for j := range containers {
				pod.Run(harness.ContainerConfig(fmt.Sprintf("c%d-%d", i, j), "sleep 1000"))
			}
		})
	}
	var plugins []*plugin
	for range 3 {
		p := &plugin{}
		join(t, socket, p)
		plugins = append(plugins, p)
		time.Sleep(50 * time.Millisecond)
	}
	wg.Wait()
	for n, p := range plugins {
		created := 0
		for _, s := range p.seen() {
			if strings.HasPrefix(s, "create ") {
				created++
			}
		}
		want(t, fmt.Sprintf("containers that plugin %d knows", n), created+len(p.shown)-pods, pods*containers)
	}
}

// TestRootPluginHangs: a plugin that does not answer is cut off, and holds up nothing more.
func TestRootPluginHangs(t *testing.T) {
	d, socket := plugged(t)
	slow, quick := &plugin{}, &plugin{}
	join(t, socket, slow)
	join(t, socket, quick)
	release := make(chan struct{})
	defer close(release)
	slow.set("", func(string) { <-release })
	config := harness.OnHostNetwork(d.PodConfig("held"))
	if _, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config}); err != nil {
		t.Logf("the first try: %v", err)
	}
	began := time.Now()
	pod := d.RunPod(config)
	pod.Run(harness.ContainerConfig("c", "true")).Wait()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("after the plugin was cut off, a pod took %v", took)
	}
	if steps := quick.seen(); !slices.Contains(steps, "run held") || !slices.Contains(steps, "start c") {
		t.Errorf("the other plugin was told %q", steps)
	}
}

// TestRootPluginProgram: a plugin of the interface's own module, started by the daemon, judges what another one wants.
func TestRootPluginProgram(t *testing.T) {
	dir := t.TempDir()
	socket := dir + "/nri.sock"
	program, err := images.Program("test/images/programs/judge")
	check(t, err)
	check(t, os.MkdirAll(dir+"/plugins", 0o755))
	check(t, os.MkdirAll(dir+"/conf", 0o755))
	check(t, os.WriteFile(dir+"/plugins/20-judge", program, 0o755))
	check(t, os.WriteFile(dir+"/conf/judge.conf", []byte(`{"Enable": true, "RejectOCIHookAdjustment": true}`), 0o644))
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: fmt.Sprintf(
		"[nri]\nsocket = %q\nplugin_dir = %q\nplugin_config_dir = %q\n", socket, dir+"/plugins", dir+"/conf")})
	p := &plugin{adjust: &api.ContainerAdjustment{}}
	join(t, socket, p)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("judged")))
	p.adjust.AddEnv("HARMLESS", "1")
	pod.Run(harness.ContainerConfig("good", "true"))
	p.adjust.AddHooks(&api.Hooks{Poststart: []*api.Hook{{Path: "/bin/true"}}})
	wantError(t, tryCreate(d, pod, harness.ContainerConfig("hooked", "true")), codes.FailedPrecondition, "hook")
}
