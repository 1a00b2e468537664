package blackbox

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

func updateResources(d *harness.Daemon, id string, r *cri.LinuxContainerResources) error {
	_, err := d.Runtime.UpdateContainerResources(d.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: r})
	return err
}

// limits are those of a container that the tests change, as the kernel has them.
func limits(c *harness.Container) string {
	return strings.Join([]string{
		c.Limit("memory/memory.limit_in_bytes", "memory.max"), c.Limit("cpu/cpu.shares", "cpu.weight"),
		c.Limit("cpu/cpu.cfs_quota_us", "cpu.max"), c.Limit("cpuset/cpuset.cpus", "cpuset.cpus"),
	}, ", ")
}

func TestRootUpdateResources(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("resize")))
	config := harness.ContainerConfig("c", `x=$(head -c 20000000 /dev/zero | tr '\0' x); echo ready; trap "exit 0" TERM; while :; do sleep 0.1; done`)
	config.Linux.Resources = &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 96 << 20}
	c := pod.Run(config)
	d.Eventually("the container to have its memory", func() bool { return strings.Contains(c.Output("stdout"), "ready") })

	check(t, updateResources(d, c.ID, &cri.LinuxContainerResources{CpuPeriod: 50000, CpuQuota: 75000, CpuShares: 1024, MemoryLimitInBytes: 128 << 20, CpusetCpus: "0"}))
	raised := "134217728, 1024, 75000, 0"
	if harness.UnifiedCgroups() {
		raised = "134217728, 100, 75000 50000, 0"
	}
	want(t, "limits", limits(c), raised)
	check(t, updateResources(d, c.ID, &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}))
	lowered := strings.Replace(raised, "134217728", strconv.Itoa(64<<20), 1)
	want(t, "limits after the memory was lowered", limits(c), lowered)

	for _, bad := range []struct {
		name  string
		r     *cri.LinuxContainerResources
		code  codes.Code
		words string
	}{
		{"below usage", &cri.LinuxContainerResources{MemoryLimitInBytes: 4 << 20, CpuShares: 2}, codes.FailedPrecondition, "in use"},
		{"processors that are not there", &cri.LinuxContainerResources{CpuShares: 2, CpuQuota: 10000, CpusetCpus: "4000"}, codes.InvalidArgument, "4000"},
		{"swap below memory", &cri.LinuxContainerResources{CpuShares: 2, MemorySwapLimitInBytes: 5}, codes.InvalidArgument, "memory_swap_limit_in_bytes"},
		{"a negative quota", &cri.LinuxContainerResources{CpuShares: 2, CpuQuota: -2}, codes.InvalidArgument, "cpu_quota"},
	} {
		wantError(t, updateResources(d, c.ID, bad.r), bad.code, bad.words)
		want(t, "limits after "+bad.name, limits(c), lowered)
	}
	d.Kill()
	d.Restart()
	s := c.Status()
	want(t, "state", s.State, cri.ContainerState_CONTAINER_RUNNING)
	r := s.Resources.GetLinux()
	if r.GetCpuShares() != 1024 || r.GetCpuQuota() != 75000 || r.GetCpuPeriod() != 50000 || r.GetMemoryLimitInBytes() != 64<<20 || r.GetCpusetCpus() != "0" {
		t.Errorf("resources in the status of the next daemon: %v", r)
	}
	c.Stop(0)
	wantError(t, updateResources(d, c.ID, &cri.LinuxContainerResources{CpuShares: 2}), codes.FailedPrecondition, c.ID)
	wantError(t, updateResources(d, "none", &cri.LinuxContainerResources{CpuShares: 2}), codes.NotFound, "none")
}

// TestRootUpdateBeforeStart: kubelet's managers of processors and memory change a container between its
// creation and its start, which by then may be another daemon's.
func TestRootUpdateBeforeStart(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("early")))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Linux.Resources.MemoryLimitInBytes = 50 << 20
	c := pod.Create(config)
	check(t, updateResources(d, c.ID, &cri.LinuxContainerResources{CpusetCpus: "0", MemoryLimitInBytes: 60 << 20}))
	d.Kill()
	d.Restart()
	check(t, updateResources(d, c.ID, &cri.LinuxContainerResources{CpuShares: 300}))
	c.Start()
	want(t, "memory limit", c.Limit("memory/memory.limit_in_bytes", "memory.max"), strconv.Itoa(60<<20))
	want(t, "processors", c.Exec("grep Cpus_allowed_list /proc/self/status | tr -s '\\t ' ' '"), "Cpus_allowed_list: 0")
	if got := c.Limit("cpu/cpu.shares", "cpu.weight"); got != "300" && got != "39" {
		t.Errorf("shares 300 are %s", got)
	}
}

// TestRootUnifiedResources: what kubelet 1.37 sends for the quality of memory. On cgroup v1 it has no effect,
// and does not fail.
func TestRootUnifiedResources(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("qos")))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Linux.Resources = &cri.LinuxContainerResources{
		MemoryLimitInBytes: 64 << 20, MemorySwapLimitInBytes: 80 << 20,
		Unified:        map[string]string{"memory.oom.group": "1", "memory.high": "40000000", "memory.min": "1048576"},
		HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 0}, {PageSize: "1GB", Limit: 0}},
	}
	c := pod.Run(config)
	want(t, "unified in the status", c.Status().Resources.GetLinux().GetUnified()["memory.high"], "40000000")
	check(t, updateResources(d, c.ID, &cri.LinuxContainerResources{Unified: map[string]string{"memory.high": "max"}}))
	want(t, "unified in the status, updated", c.Status().Resources.GetLinux().GetUnified()["memory.high"], "max")
	wrong := harness.ContainerConfig("wrong", harness.Sleep)
	wrong.Linux.Resources.Unified = map[string]string{"memory.high": "much"}
	if !harness.UnifiedCgroups() {
		return
	}
	for file, value := range map[string]string{"memory.oom.group": "1", "memory.high": "max", "memory.min": "1048576", "memory.max": "67108864", "hugetlb.2MB.max": "0"} {
		want(t, file, c.Limit("", file), value)
	}
	_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: wrong, SandboxConfig: pod.Config})
	wantError(t, err, codes.InvalidArgument, "memory.high", "much")
}

// parentsLimits are those of the cgroup that a client gave for its pods, which is the client's.
func parentsLimits(t *testing.T, d *harness.Daemon) string {
	t.Helper()
	files := []string{"/sys/fs/cgroup/memory" + d.CgroupParent + "/memory.limit_in_bytes", "/sys/fs/cgroup/cpu" + d.CgroupParent + "/cpu.shares"}
	if harness.UnifiedCgroups() {
		files = []string{"/sys/fs/cgroup" + d.CgroupParent + "/memory.max", "/sys/fs/cgroup" + d.CgroupParent + "/cpu.weight"}
	}
	var out strings.Builder
	for _, path := range files {
		text, err := os.ReadFile(path)
		check(t, err)
		out.Write(text)
	}
	return out.String()
}

// TestRootUpdatePod: kubelet calls it before it changes the pod's cgroup, and takes any error for a refusal.
func TestRootUpdatePod(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("resized")))
	update := func(id string, r *cri.LinuxContainerResources) error {
		_, err := d.Runtime.UpdatePodSandboxResources(d.Context(), &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: id, Resources: r})
		return err
	}
	pod.Run(harness.ContainerConfig("c", harness.Sleep))
	before := parentsLimits(t, d)
	check(t, update(pod.ID, &cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 20, CpuShares: 2}))
	check(t, update(pod.ID, nil))
	want(t, "limits of the pod's cgroup", parentsLimits(t, d), before)
	wantError(t, update("none", nil), codes.NotFound, "none")
	wantError(t, update(pod.ID, &cri.LinuxContainerResources{CpuShares: -1}), codes.InvalidArgument, "cpu_shares")
}
