package blackbox

import (
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// TestRootSysctlNames: names come with dots or slashes, as sysctl(8) takes them.
func TestRootSysctlNames(t *testing.T) {
	d := start(t)
	config := d.PodConfig("names")
	config.Linux.Sysctls = map[string]string{
		"net/ipv4/conf/default/rp_filter":     "2",
		"net.core.somaxconn":                  "1234",
		"kernel/shmmni":                       "100",
		"net.ipv4.ip_unprivileged_port_start": "81",
	}
	c := d.RunPod(config).Run(harness.ContainerConfig("c", harness.Sleep))
	for file, value := range map[string]string{
		"net/ipv4/conf/default/rp_filter": "2", "net/core/somaxconn": "1234", "kernel/shmmni": "100", "net/ipv4/ip_unprivileged_port_start": "81",
	} {
		want(t, file, c.Exec("cat /proc/sys/"+file), value)
	}
}

func TestRootBadSysctls(t *testing.T) {
	d := start(t)
	node := func(c *cri.PodSandboxConfig) { harness.OnHostNetwork(c) }
	ipc := func(c *cri.PodSandboxConfig) {
		c.Linux.SecurityContext.NamespaceOptions.Ipc = cri.NamespaceMode_NODE
	}
	own := func(*cri.PodSandboxConfig) {}
	for _, c := range []struct {
		key, value string
		change     func(*cri.PodSandboxConfig)
		code       codes.Code
		words      []string
	}{
		{"kernel.pid_max", "100000", own, codes.InvalidArgument, []string{"kernel.pid_max", "not namespaced"}},
		{"vm.swappiness", "1", own, codes.InvalidArgument, []string{"vm.swappiness", "not namespaced"}},
		{"kernel/core_pattern", "|/tmp/x", own, codes.InvalidArgument, []string{"kernel/core_pattern", "not namespaced"}},
		{"net.core.somaxconn", "1", node, codes.InvalidArgument, []string{"net.core.somaxconn", "network namespace"}},
		{"net/core/somaxconn", "1", node, codes.InvalidArgument, []string{"net/core/somaxconn", "network namespace"}},
		{"kernel.shmmax", "1", ipc, codes.InvalidArgument, []string{"kernel.shmmax", "IPC namespace"}},
		{"fs.mqueue.msg_max", "1", ipc, codes.InvalidArgument, []string{"fs.mqueue.msg_max", "IPC namespace"}},
		{"net/../kernel/pid_max", "1", own, codes.InvalidArgument, []string{"net/../kernel/pid_max"}},
		{"net..kernel", "1", own, codes.InvalidArgument, []string{"net..kernel"}},
		{"net.core.no_such_thing", "1", own, codes.Unknown, []string{"set sysctl net.core.no_such_thing", "no such file"}},
		{"net.core.somaxconn", "many", own, codes.Unknown, []string{"set sysctl net.core.somaxconn", "invalid argument"}},
	} {
		config := d.PodConfig("bad")
		config.Linux.Sysctls = map[string]string{c.key: c.value}
		c.change(config)
		_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
		wantError(t, err, c.code, c.words...)
	}
	list, err := d.Runtime.ListPodSandbox(d.Context(), &cri.ListPodSandboxRequest{})
	check(t, err)
	want(t, "pods that are left", len(list.Items), 0)
}
