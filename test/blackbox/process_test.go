package blackbox

import (
	"os"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

func pidMode(config *cri.PodSandboxConfig, mode cri.NamespaceMode) *cri.PodSandboxConfig {
	config.Linux.SecurityContext.NamespaceOptions.Pid = mode
	return config
}

func containerPID(config *cri.ContainerConfig, mode cri.NamespaceMode, target string) *cri.ContainerConfig {
	config.Linux.SecurityContext.NamespaceOptions.Pid = mode
	config.Linux.SecurityContext.NamespaceOptions.TargetId = target
	return config
}

func TestRootSharedPID(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(pidMode(d.PodConfig("shared"), cri.NamespaceMode_POD)))
	want(t, "PID mode", pod.Status().Linux.Namespaces.Options.Pid, cri.NamespaceMode_POD)
	run := func(name, script string) *harness.Container {
		return pod.Run(containerPID(harness.ContainerConfig(name, script), cri.NamespaceMode_POD, ""))
	}
	a, b := run("a", "exec sleep 1111"), run("b", "exec sleep 2222")
	for _, c := range []*harness.Container{a, b} {
		d.Eventually("both to be seen", func() bool {
			ps := c.Exec("ps")
			return strings.Contains(ps, "sleep 1111") && strings.Contains(ps, "sleep 2222")
		})
	}
	if first := a.Exec("cat /proc/1/cmdline | tr '\\0' ' '"); strings.Contains(first, "sleep") {
		t.Errorf("PID 1 is a container's: %s", first)
	}
	want(t, "processes of PID 1's name", a.Exec("cat /proc/1/status | grep -c Name"), "1")
	// An orphan is reaped by the pod's PID 1, and ending one container leaves the other.
	a.Exec("sh -c 'sleep 0.2 & exit 0'")
	d.Eventually("orphans to be reaped", func() bool { return !strings.Contains(a.Exec("ps"), "[sleep]") })
	b.Exec("kill $(pidof sleep | tr ' ' '\\n' | while read p; do grep -q 1111 /proc/$p/cmdline && echo $p; done)")
	want(t, "exit code of the one that the other ended", a.Wait().ExitCode, 143)
	want(t, "state of the other", b.Status().State, cri.ContainerState_CONTAINER_RUNNING)
	want(t, "processes left in the pod", b.Exec("ps | grep -c 'sleep [0-9]'"), "1")
	b.Stop(0)
}

func TestRootPIDOfContainerNodeAndTarget(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("pids")))
	own := pod.Run(harness.ContainerConfig("own", harness.Sleep))
	want(t, "a container's own first process", own.Exec("tr '\\0' ' ' < /proc/1/cmdline | cut -c1-5"), "sh -c")
	beside := pod.Run(containerPID(harness.ContainerConfig("beside", harness.Sleep), cri.NamespaceMode_TARGET, own.ID))
	want(t, "namespace of the target", beside.Exec("readlink /proc/self/ns/pid"), own.Exec("readlink /proc/self/ns/pid"))
	node := d.RunPod(harness.OnHostNetwork(pidMode(d.PodConfig("node"), cri.NamespaceMode_NODE))).
		Run(containerPID(harness.ContainerConfig("c", harness.Sleep), cri.NamespaceMode_NODE, ""))
	host, err := os.Readlink("/proc/self/ns/pid")
	check(t, err)
	want(t, "namespace of the node", node.Exec("readlink /proc/self/ns/pid"), host)
}

func TestRootOOMKilled(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("oom")))
	config := harness.ContainerConfig("eater", "exec tail /dev/zero")
	config.Linux.Resources.MemoryLimitInBytes = 20 << 20
	s := pod.Run(config).Wait()
	want(t, "exit code", s.ExitCode, 137)
	want(t, "reason", s.Reason, "OOMKilled")
	group := harness.ContainerConfig("group", "tail /dev/zero; sleep 60") // which dies as one, on cgroup v2
	group.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 20 << 20, Unified: map[string]string{"memory.oom.group": "1"}}
	if harness.UnifiedCgroups() {
		s = pod.Run(group).Wait()
		want(t, "exit code of a group", s.ExitCode, 137)
		want(t, "reason of a group", s.Reason, "OOMKilled")
	}
	small := harness.ContainerConfig("small", "echo it starts")
	small.Linux.Resources.MemoryLimitInBytes = 1 << 20
	c := pod.Run(small)
	want(t, "exit code with a limit of 1 MiB", c.Wait().ExitCode, 0)
	want(t, "its output", c.Output("stdout"), "it starts\n")
}

func TestRootResources(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("limits")))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Linux.Resources = &cri.LinuxContainerResources{
		CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500, CpusetCpus: "0",
	}
	c := pod.Run(config)
	want(t, "oom_score_adj", c.Exec("cat /proc/self/oom_score_adj"), "500")
	want(t, "processors", c.Exec("grep Cpus_allowed_list /proc/self/status | tr -s '\\t ' ' '"), "Cpus_allowed_list: 0")
	got := c.Status().Resources.GetLinux()
	if got.GetCpuShares() != 512 || got.GetCpuQuota() != 50000 || got.GetMemoryLimitInBytes() != 64<<20 {
		t.Errorf("resources in the status: %v", got)
	}
	low := harness.ContainerConfig("low", harness.Sleep)
	low.Linux.Resources.OomScoreAdj = -900 // clamped where the node does not grant it
	want(t, "state with a low oom_score_adj", pod.Run(low).Status().State, cri.ContainerState_CONTAINER_RUNNING)
}

func TestRootCgroups(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("cgroups")))
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	path := c.Cgroup()
	found := false
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"} {
		procs, err := os.ReadFile(root + path + "/cgroup.procs")
		if err == nil && len(strings.Fields(string(procs))) > 0 {
			found = true
		}
	}
	if !found {
		t.Errorf("no process of the container is in a cgroup %s", path)
	}
	c.Stop(0)
	c.Remove()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory"} {
		if _, err := os.Stat(root + path); !os.IsNotExist(err) {
			t.Errorf("%s after the container's removal: %v", root+path, err)
		}
	}
}
