package blackbox

import (
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

const staging = "gcr.io/k8s-staging-cri-tools/"

// TestRootSecurity runs, for each case, a container that a change was made to, and
// compares what a script says there.
func TestRootSecurity(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("security"))
	for _, c := range []struct {
		name   string
		change func(*cri.LinuxContainerSecurityContext)
		script string
		says   string
	}{
		{"root", func(*cri.LinuxContainerSecurityContext) {}, "id -u; id -g; id -G", "0\n0\n0 10"},
		{"user", func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1001} }, "id -u; id -g; whoami 2>/dev/null || echo nobody knows", "1001\n0\nnobody knows"},
		{"user and group", func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUser, s.RunAsGroup = &cri.Int64Value{Value: 1001}, &cri.Int64Value{Value: 1002}
		}, "id -u; id -g", "1001\n1002"},
		{"username", func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "www-data" }, "id -un; id -gn", "www-data\nwww-data"},
		{"supplemental groups", func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUser, s.SupplementalGroups = &cri.Int64Value{Value: 1001}, []int64{5678, 1234}
		}, "id -G | tr ' ' '\\n' | sort", "0\n1234\n5678"},
		{"default capabilities", func(*cri.LinuxContainerSecurityContext) {}, "brctl addbr br0 2>&1 | grep -c 'not permitted'", "1"},
		{"a capability added", func(s *cri.LinuxContainerSecurityContext) {
			s.Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_TIME"}}
		}, capabilityScript(25), "yes"},
		{"a capability not added", func(*cri.LinuxContainerSecurityContext) {}, capabilityScript(25), "no"},
		{"a capability dropped", func(s *cri.LinuxContainerSecurityContext) {
			s.Capabilities = &cri.Capability{DropCapabilities: []string{"CHOWN"}}
		}, "touch /tmp/f; chown 1 /tmp/f 2>&1 | grep -c 'not permitted'", "1"},
		{"all dropped", func(s *cri.LinuxContainerSecurityContext) {
			s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}}
		}, "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | tr -d '\\t'", "CapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000"},
		{"read-only root", func(s *cri.LinuxContainerSecurityContext) { s.ReadonlyRootfs = true }, "touch /f 2>&1; echo x > /dev/null && echo dev", "touch: /f: Read-only file system\ndev"},
		{"masked", func(s *cri.LinuxContainerSecurityContext) {
			s.MaskedPaths = []string{"/etc/passwd", "/bin/ls", "/home"}
		}, "cat /etc/passwd; ls 2>&1; echo /home/*", "sh: ls: Permission denied\n/home/*"},
		{"read-only paths", func(s *cri.LinuxContainerSecurityContext) { s.ReadonlyPaths = []string{"/tmp", "/proc/sys"} }, "touch /tmp/f 2>&1; touch /proc/sys/kernel/core_uses_pid 2>&1", "touch: /tmp/f: Read-only file system\ntouch: /proc/sys/kernel/core_uses_pid: Read-only file system"},
		{"no seccomp", func(s *cri.LinuxContainerSecurityContext) {
			s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
		}, "grep Seccomp: /proc/self/status | tr -d '\\t'", "Seccomp:0"},
		{"default seccomp", func(s *cri.LinuxContainerSecurityContext) {
			s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
		}, "grep Seccomp: /proc/self/status | tr -d '\\t'", "Seccomp:2"},
		{"no new privileges", func(s *cri.LinuxContainerSecurityContext) { s.NoNewPrivs = true }, "grep NoNewPrivs: /proc/self/status | tr -d '\\t'", "NoNewPrivs:1"},
	} {
		config := harness.ContainerConfig(strings.ReplaceAll(c.name, " ", "-"), c.script)
		c.change(config.Linux.SecurityContext)
		container := pod.Run(config)
		container.Wait()
		want(t, "what is said by "+c.name, strings.TrimSpace(container.Output("stdout")), c.says)
	}
}

// capabilityScript says whether a capability is in effect.
func capabilityScript(number int) string {
	mask := "0x" + strings.ToLower(hex(uint64(1)<<number))
	return `e=0x$(grep CapEff /proc/self/status | cut -f2); [ $((e & ` + mask + `)) -ne 0 ] && echo yes || echo no`
}

func hex(n uint64) string {
	const digits = "0123456789abcdef"
	out := ""
	for ; n > 0; n >>= 4 {
		out = string(digits[n&15]) + out
	}
	return out
}

func TestRootImageUsers(t *testing.T) {
	images := map[string]string{
		"test-image-user-uid": "1002:0", "test-image-user-username": "33:33",
		"test-image-user-uid-group": "1003:1004", "test-image-user-username-group": "33:1004",
	}
	var refs []string
	for name := range images {
		refs = append(refs, staging+name+":latest")
	}
	d := start(t, append(refs, staging+"test-image-predefined-group:latest")...)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("users")))
	for name, says := range images {
		config := harness.ContainerConfig(name, "echo $(id -u):$(id -g)")
		config.Image.Image = staging + name + ":latest"
		c := pod.Run(config)
		c.Wait()
		want(t, name, strings.TrimSpace(c.Output("stdout")), says)
	}
	for policy, says := range map[cri.SupplementalGroupsPolicy]string{
		cri.SupplementalGroupsPolicy_Merge: "1000 1234 50000", cri.SupplementalGroupsPolicy_Strict: "1000 1234",
	} {
		config := harness.ContainerConfig("groups-"+strings.ToLower(policy.String()), "echo $(id -G | tr ' ' '\\n' | sort -n); "+harness.Sleep)
		config.Image.Image = staging + "test-image-predefined-group:latest"
		config.Linux.SecurityContext.SupplementalGroups = []int64{1234}
		config.Linux.SecurityContext.SupplementalGroupsPolicy = policy
		c := pod.Run(config)
		d.Eventually("the output", func() bool { return c.Output("stdout") != "" })
		want(t, policy.String(), strings.TrimSpace(c.Output("stdout")), says)
		want(t, "user in the status", c.Status().User.GetLinux().GetUid(), 1000)
	}
}

func TestRootNoNewPrivileges(t *testing.T) {
	const image = "registry.k8s.io/e2e-test-images/nonewprivs:1.3"
	d := start(t, image)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("nnp")))
	for set, says := range map[bool]string{true: "Effective uid: 1000\n", false: "Effective uid: 0\n"} {
		config := harness.ContainerConfig("nnp-"+map[bool]string{true: "set", false: "unset"}[set], "")
		config.Image.Image, config.Command = image, nil
		config.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1000}
		config.Linux.SecurityContext.NoNewPrivs = set
		c := pod.Run(config)
		c.Wait()
		want(t, config.Metadata.Name, c.Output("stdout"), says)
	}
}

func TestRootSysctls(t *testing.T) {
	d := start(t)
	config := d.PodConfig("sysctls")
	config.Linux.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "20000 30000", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "100"}
	c := d.RunPod(config).Run(harness.ContainerConfig("c", harness.Sleep))
	want(t, "sysctl of the network", strings.Join(strings.Fields(c.Exec("cat /proc/sys/net/ipv4/ip_local_port_range")), " "), "20000 30000")
	want(t, "sysctl of IPC", c.Exec("cat /proc/sys/kernel/shm_rmid_forced"), "1")
	want(t, "sysctl of message queues", c.Exec("cat /proc/sys/fs/mqueue/msg_max"), "100")
}

func TestRootPrivileged(t *testing.T) {
	d := start(t)
	config := d.PodConfig("privileged")
	config.Linux.SecurityContext.Privileged = true
	pod := d.RunPod(config)
	container := harness.ContainerConfig("c", harness.Sleep)
	container.Linux.SecurityContext.Privileged = true
	c := pod.Run(container)
	c.Exec("brctl addbr br7 && ip link show br7 && brctl delbr br7")
	c.Exec("mkdir /tmp/m && mount -t tmpfs tmpfs /tmp/m && umount /tmp/m")
	want(t, "seccomp", c.Exec("grep Seccomp: /proc/self/status | tr -d '\\t'"), "Seccomp:0")
	want(t, "whether sysfs is writable", c.Exec("grep -c ' /sys sysfs rw' /proc/self/mounts"), "1")
}
