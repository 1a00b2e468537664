package blackbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// deviceDir is a directory of the host with device nodes, one of them deeper, a
// link to one, and what is none.
func deviceDir(t *testing.T) string {
	t.Helper()
	harness.NeedRoot(t)
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "below"), 0o755))
	check(t, unix.Mknod(filepath.Join(dir, "nothing"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(t, unix.Mknod(filepath.Join(dir, "below/zeros"), unix.S_IFCHR|0o640, int(unix.Mkdev(1, 5))))
	check(t, os.Chown(filepath.Join(dir, "below/zeros"), 0, 1234))
	check(t, unix.Mknod(filepath.Join(dir, "messages"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 11))))
	check(t, os.Symlink("below/zeros", filepath.Join(dir, "link")))
	check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	return dir
}

func TestRootDevices(t *testing.T) {
	dir := deviceDir(t)
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("devices")))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Devices = []*cri.Device{
		{HostPath: dir, ContainerPath: "/dev/dir", Permissions: "rwm"},
		{HostPath: dir + "/link", ContainerPath: "/dev/linked", Permissions: "rw"},
		{HostPath: dir + "/messages", ContainerPath: "/dev/outside/dev", Permissions: "r"},
		{HostPath: dir + "/nothing", ContainerPath: "/opt/nothing", Permissions: "rwm"}, // not below /dev
	}
	c := pod.Run(config)
	want(t, "nodes of a directory", c.Exec("cd /dev/dir && find . | sort | tr '\\n' ' '"), ". ./below ./below/zeros ./messages ./nothing")
	want(t, "a node", c.Exec("stat -c '%F %t:%T %a %g' /dev/dir/below/zeros"), "character special file 1:5 640 1234")
	want(t, "a linked one", c.Exec("stat -c '%F %t:%T' /dev/linked; head -c 3 /dev/linked | wc -c"), "character special file 1:5\n3")
	want(t, "one elsewhere", c.Exec("echo x > /opt/nothing; stat -c %t:%T /opt/nothing"), "1:3")

	// The kernel's log is not among the default devices: it works where it was granted, and only so.
	for name, granted := range map[string]string{"narrow": "granted", "none": "refused"} {
		config := harness.ContainerConfig(name, harness.Sleep)
		config.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"SYSLOG"}}
		if granted == "granted" {
			config.Devices = []*cri.Device{{HostPath: dir + "/messages", ContainerPath: "/dev/messages", Permissions: "r"}}
		}
		c := pod.Run(config)
		want(t, "reading, "+name, c.Exec("mknod /tmp/messages c 1 11; true < /tmp/messages 2>/dev/null && echo granted || echo refused"), granted)
		want(t, "writing, "+name, c.Exec("true > /tmp/messages 2>/dev/null && echo granted || echo refused"), "refused")
	}
}

// TestRootExecWithoutTheHostsDevice: a device that was unplugged is no matter of an exec's.
func TestRootExecWithoutTheHostsDevice(t *testing.T) {
	dir := deviceDir(t)
	d := start(t)
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Devices = []*cri.Device{{HostPath: dir + "/nothing", ContainerPath: "/dev/nothing", Permissions: "rwm"}}
	c := d.RunPod(harness.OnHostNetwork(d.PodConfig("unplugged"))).Run(config)
	check(t, os.Remove(dir+"/nothing"))
	d.Kill()
	d.Restart()
	want(t, "device in the container", c.Exec("stat -c %t:%T /dev/nothing"), "1:3")
}

func TestRootBadDevices(t *testing.T) {
	dir := deviceDir(t)
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("bad")))
	for name, device := range map[string]*cri.Device{
		"missing":     {HostPath: dir + "/missing", ContainerPath: "/dev/x", Permissions: "rwm"},
		"a-file":      {HostPath: dir + "/file", ContainerPath: "/dev/x", Permissions: "rwm"},
		"permissions": {HostPath: dir + "/nothing", ContainerPath: "/dev/x", Permissions: "rwx"},
		"relative":    {HostPath: dir + "/nothing", ContainerPath: "dev/x", Permissions: "rwm"},
	} {
		config := harness.ContainerConfig(name, "true")
		config.Devices = []*cri.Device{device}
		_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		wantError(t, err, codes.InvalidArgument, "devices")
	}
}

// TestRootPrivilegedSeesTheHost: all capabilities that the daemon has, all devices,
// nothing masked or read-only, no filter; devices that the pod asks for too.
func TestRootPrivilegedSeesTheHost(t *testing.T) {
	d := start(t)
	config := harness.OnHostNetwork(d.PodConfig("privileged"))
	config.Linux.SecurityContext.Privileged = true
	pod := d.RunPod(config)
	container := harness.ContainerConfig("c", harness.Sleep)
	s := container.Linux.SecurityContext
	s.Privileged = true
	s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"}
	s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	c := pod.Run(container)
	own, err := os.ReadFile("/proc/self/status")
	check(t, err)
	granted := ""
	for line := range strings.Lines(string(own)) {
		if rest, ok := strings.CutPrefix(line, "CapPrm:\t"); ok {
			granted = strings.TrimSpace(rest)
		}
	}
	want(t, "capabilities", c.Exec("sed -n 's/^CapEff:\t//p' /proc/self/status"), granted)
	want(t, "filter", c.Exec("sed -n 's/^Seccomp:\t//p' /proc/self/status"), "0")
	want(t, "mounts over /proc", c.Exec("grep -c ' /proc/' /proc/self/mounts || true"), "0")
	want(t, "whether sysctls can be written", c.Exec("v=$(cat /proc/sys/vm/swappiness); echo $v > /proc/sys/vm/swappiness && echo yes"), "yes")
	want(t, "whether the cgroups can be written", c.Exec("awk '$2 ~ \"^/sys/fs/cgroup\" && $4 ~ \"^ro\"' /proc/self/mounts | wc -l"), "0")
	want(t, "whether any device may be used", c.Exec("mknod /tmp/kmsg c 1 11; true < /tmp/kmsg && echo yes"), "yes")
	var nodes []string
	entries, err := os.ReadDir("/dev")
	check(t, err)
	for _, e := range entries {
		if e.Type()&os.ModeDevice != 0 && e.Name() != "console" && e.Name() != "ptmx" {
			nodes = append(nodes, "/dev/"+e.Name())
		}
	}
	want(t, "devices that are missing", c.Exec("for n in "+strings.Join(nodes, " ")+"; do test -e $n || echo $n; done"), "")
}
