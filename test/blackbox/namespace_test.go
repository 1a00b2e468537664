package blackbox

import (
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

const namespacesScript = "for n in cgroup ipc mnt net pid user uts; do echo $n $(readlink /proc/self/ns/$n); done"

// namespacesOf maps kinds to what /proc/self/ns has for them in a container.
func namespacesOf(c *harness.Container) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(c.Exec(namespacesScript)) {
		kind, ns, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[kind] = ns
	}
	return out
}

// TestRootNamespaces: which of two containers' namespaces are the node's, which are both's, and which each has alone.
func TestRootNamespaces(t *testing.T) {
	d := start(t)
	const own, pods, nodes = "own", "the pod's", "the node's"
	for name, c := range map[string]struct {
		change func(*cri.NamespaceOption)
		wanted map[string]string
	}{
		"kubelets": {func(*cri.NamespaceOption) {}, map[string]string{
			"cgroup": own, "mnt": own, "pid": own, "net": pods, "ipc": pods, "uts": pods, "user": nodes}},
		"shared-pid": {func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_POD }, map[string]string{
			"cgroup": own, "mnt": own, "pid": pods, "net": pods, "ipc": pods, "uts": pods, "user": nodes}},
		"nodes-pid": {func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_NODE }, map[string]string{
			"cgroup": own, "mnt": own, "pid": nodes, "net": pods, "ipc": pods, "uts": pods, "user": nodes}},
		"nodes-network": {func(o *cri.NamespaceOption) { o.Network = cri.NamespaceMode_NODE }, map[string]string{
			"cgroup": own, "mnt": own, "pid": own, "net": nodes, "ipc": pods, "uts": nodes, "user": nodes}},
		"nodes-ipc": {func(o *cri.NamespaceOption) { o.Ipc = cri.NamespaceMode_NODE }, map[string]string{
			"cgroup": own, "mnt": own, "pid": own, "net": pods, "ipc": nodes, "uts": pods, "user": nodes}},
		"users": {func(o *cri.NamespaceOption) { o.UsernsOptions = userNamespace() }, map[string]string{
			"cgroup": own, "mnt": own, "pid": own, "net": pods, "ipc": pods, "uts": pods, "user": pods}},
		"users-shared-pid": {func(o *cri.NamespaceOption) { o.UsernsOptions, o.Pid = userNamespace(), cri.NamespaceMode_POD }, map[string]string{
			"cgroup": own, "mnt": own, "pid": pods, "net": pods, "ipc": pods, "uts": pods, "user": pods}},
		"users-nodes-network": {func(o *cri.NamespaceOption) { o.UsernsOptions, o.Network = userNamespace(), cri.NamespaceMode_NODE }, map[string]string{
			"cgroup": own, "mnt": own, "pid": own, "net": nodes, "ipc": pods, "uts": nodes, "user": pods}},
	} {
		config := d.PodConfig(name)
		c.change(config.Linux.SecurityContext.NamespaceOptions)
		if config.Linux.SecurityContext.NamespaceOptions.Network == cri.NamespaceMode_NODE {
			config.Hostname = ""
		}
		pod := d.RunPod(config)
		var both [2]map[string]string
		for i, container := range []string{"a", "b"} {
			config := harness.ContainerConfig(container, harness.Sleep)
			c.change(config.Linux.SecurityContext.NamespaceOptions)
			both[i] = namespacesOf(pod.Run(config))
		}
		for kind, wanted := range c.wanted {
			node, err := os.Readlink("/proc/self/ns/" + kind)
			check(t, err)
			is := own
			switch {
			case both[0][kind] == node && both[1][kind] == node:
				is = nodes
			case both[0][kind] == both[1][kind]:
				is = pods
			}
			want(t, kind+" namespace of "+name, is, wanted)
		}
		pod.Remove()
	}
}

// TestRootPodsInARow: namespaces that were made ahead are one pod's only, have its name, and those of a killed daemon are gone with it.
func TestRootPodsInARow(t *testing.T) {
	d := start(t)
	seen := map[string]string{}
	var ahead []string
	for _, name := range []string{"one", "two", "three", "killed", "four"} {
		if name == "killed" {
			d.Kill()
			d.Restart()
		}
		pod := d.RunPod(d.PodConfig(name))
		c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
		text, err := explain(d, "--pod", pod.ID)
		check(t, err)
		if strings.Contains(text, "made before it was asked for") {
			ahead = append(ahead, name)
		}
		want(t, "hostname", c.Exec("hostname"), d.PodConfig(name).Hostname)
		for kind, ns := range namespacesOf(c) {
			if other := seen[ns]; other != "" && (kind == "net" || kind == "ipc" || kind == "uts") {
				t.Errorf("pod %s has the %s namespace of pod %s", name, kind, other)
			}
			seen[ns] = name
		}
	}
	// On a busy machine a pod may come before they are ready; the first of a daemon has none in any case.
	if len(ahead) == 0 || slices.Contains(ahead, "one") || slices.Contains(ahead, "killed") {
		t.Errorf("namespaces were made ahead for pods %v", ahead)
	}
}

// TestRootPodPIDNeedsASharingPod: a container that wants the PID namespace of a pod which has none is told so before it is made.
func TestRootPodPIDNeedsASharingPod(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(pidMode(d.PodConfig("own"), cri.NamespaceMode_CONTAINER)))
	err := tryCreate(d, pod, containerPID(harness.ContainerConfig("c", "true"), cri.NamespaceMode_POD, ""))
	wantError(t, err, codes.InvalidArgument, "linux.security_context.namespace_options.pid", "POD", "CONTAINER")
	err = tryCreate(d, pod, containerPID(harness.ContainerConfig("c", "true"), cri.NamespaceMode_TARGET, "nobody"))
	wantError(t, err, codes.InvalidArgument, "target_id", "nobody")
	list, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{})
	check(t, err)
	want(t, "containers", len(list.Containers), 0)
}

// TestRootSharedMemory: /dev/shm is one of the pod's containers, has a pod's size, and is the host's with the host's IPC.
func TestRootSharedMemory(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("shm")))
	a, b := pod.Run(harness.ContainerConfig("a", harness.Sleep)), pod.Run(harness.ContainerConfig("b", harness.Sleep))
	a.Exec("echo from a > /dev/shm/x")
	want(t, "what the other reads", b.Exec("cat /dev/shm/x"), "from a")
	want(t, "its size in KiB", b.Exec("df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"), "65536")
	options := strings.Split(strings.Fields(a.Exec("grep ' /dev/shm ' /proc/self/mounts"))[3], ",")
	for _, o := range []string{"nosuid", "nodev", "noexec"} {
		if !slices.Contains(options, o) {
			t.Errorf("/dev/shm is mounted %v, without %s", options, o)
		}
	}
	config := harness.OnHostNetwork(d.PodConfig("host"))
	config.Linux.SecurityContext.NamespaceOptions.Ipc = cri.NamespaceMode_NODE
	host := harness.ContainerConfig("c", harness.Sleep)
	host.Linux.SecurityContext.NamespaceOptions.Ipc = cri.NamespaceMode_NODE
	name := "berth-test-" + d.Name + "-shm"
	check(t, os.WriteFile("/dev/shm/"+name, []byte("of the host"), 0o600))
	t.Cleanup(func() { check(t, os.Remove("/dev/shm/"+name)) })
	want(t, "the host's", d.RunPod(config).Run(host).Exec("cat /dev/shm/"+name), "of the host")
}

// TestRootPrivateCgroups: a container sees its own group as the root of every hierarchy, and nothing above.
func TestRootPrivateCgroups(t *testing.T) {
	d := start(t)
	c := d.RunPod(harness.OnHostNetwork(d.PodConfig("cgroups"))).Run(harness.ContainerConfig("c", harness.Sleep))
	for _, pid := range []string{"1", "self"} {
		for line := range strings.Lines(c.Exec("cat /proc/" + pid + "/cgroup")) {
			if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); parts[2] != "/" && parts[1] != "name=openrc" {
				t.Errorf("process %s is in %s", pid, line)
			}
		}
	}
	if out := c.Exec("ls -d /sys/fs/cgroup/*/ /sys/fs/cgroup/; find /sys/fs/cgroup -name '" + c.ID + "*'"); strings.Contains(out, c.ID) {
		t.Errorf("the container finds itself below the root: %s", out)
	}
	r, err := c.TryExec(10, "sh", "-c", "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x")
	if err != nil || r.ExitCode == 0 || !strings.Contains(string(r.Stderr), "Read-only file system") {
		t.Errorf("a group was made: %v, %v", r, err)
	}
}
