package safety

import (
	"os"
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// What kubelet sends for procMount Default.
var (
	masked = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// asKubelet gives a container what kubelet gives every unprivileged one.
func asKubelet(c *cri.ContainerConfig) *cri.ContainerConfig {
	s := c.Linux.SecurityContext
	s.MaskedPaths, s.ReadonlyPaths = masked, readonly
	s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	return c
}

// Docker's and containerd's default capabilities.
const defaultCaps = "00000000a80425fb"

// TestRootWholeState compares everything that a process was given, in each kind of container, with the
// whole list of what it is to have. Any descriptor, mount, capability or group more is a way out
// (CVE-2024-21626, CVE-2022-24769, CVE-2022-29162, CVE-2018-15664); so is a filter that is missing.
func TestRootWholeState(t *testing.T) {
	d := start(t, "look")
	pod := d.RunPod(d.PodConfig("state"))
	plain := identity("0 0 0 0", "0 0 0 0", "0 10", defaultCaps, "2", "0")

	t.Run("plain", func(t *testing.T) {
		r := look(t, pod, asKubelet(container("plain", "look")))
		compare(t, r, report{PID: 1, Status: plain, Mounts: mounts(false)})
	})
	t.Run("user without privileges", func(t *testing.T) {
		c := asKubelet(container("user", "look"))
		s := c.Linux.SecurityContext
		s.RunAsUser, s.RunAsGroup, s.NoNewPrivs = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 1001}, true
		s.SupplementalGroups, s.Capabilities = []int64{2000}, &cri.Capability{DropCapabilities: []string{"ALL"}}
		want := identity("1000 1000 1000 1000", "1001 1001 1001 1001", "1001 2000", none, "2", "1")
		compare(t, look(t, pod, c), report{PID: 1, Status: want, Mounts: mounts(false)})
	})
	t.Run("exec", func(t *testing.T) {
		c := pod.Run(asKubelet(sleeper("exec")))
		r := parse(t, c.Exec("exec look"))
		if r.PID == 1 {
			t.Error("the exec is PID 1")
		}
		compare(t, r, report{PID: r.PID, Status: plain, Mounts: mounts(false)})
	})
	t.Run("privileged", func(t *testing.T) {
		config := d.PodConfig("privileged")
		config.Linux.SecurityContext.Privileged = true
		c := container("privileged", "look")
		c.Linux.SecurityContext.Privileged = true
		want := identity("0 0 0 0", "0 0 0 0", "0 10", own(t, "CapPrm"), "0", "0")
		compare(t, look(t, d.RunPod(config), c), report{PID: 1, Status: want, Mounts: mounts(true)})
	})
	t.Run("user namespace", func(t *testing.T) {
		config := d.PodConfig("users")
		users := &cri.UserNamespace{Mode: cri.NamespaceMode_POD}
		users.Uids = []*cri.IDMapping{{HostId: 65536 * 40, Length: 65536}}
		users.Gids = users.Uids
		config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = users
		c := asKubelet(container("users", "look"))
		c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = users
		compare(t, look(t, d.RunPod(config), c), report{PID: 1, Status: plain, Mounts: mounts(false)})
	})
	t.Run("shared pid namespace", func(t *testing.T) {
		config := d.PodConfig("shared")
		config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
		c := asKubelet(container("shared", "look"))
		c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
		r := look(t, d.RunPod(config), c)
		if r.PID == 1 {
			t.Error("a container is PID 1 of a pod that shares its PID namespace")
		}
		compare(t, r, report{PID: r.PID, Status: plain, Mounts: mounts(false)})
	})
}

// sleeper is a container of the look image that is only there.
func sleeper(name string) *cri.ContainerConfig {
	return container(name, "look", "sh", "-c", harness.Sleep)
}

const none = "0000000000000000"

func identity(uid, gid, groups, caps, seccomp, nnp string) map[string]string {
	filters := "1"
	if seccomp == "0" {
		filters = "0"
	}
	effective := caps
	return map[string]string{
		"Uid": uid, "Gid": gid, "Groups": groups, "NoNewPrivs": nnp, "Seccomp": seccomp, "Seccomp_filters": filters,
		"CapInh": none, "CapPrm": caps, "CapEff": effective, "CapBnd": caps, "CapAmb": none,
	}
}

// own is what /proc/self/status says here: "all capabilities" means all that the daemon has.
func own(t *testing.T, key string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("no %s in the status", key)
	return ""
}

func compare(t *testing.T, got, want report) {
	t.Helper()
	want.Descriptors = []string{"0 /dev/null", "1 pipe", "2 pipe"}
	if got.PID != want.PID {
		t.Errorf("process %d, wanted %d", got.PID, want.PID)
	}
	if !slices.Equal(got.Descriptors, want.Descriptors) {
		t.Errorf("descriptors %q, wanted %q", got.Descriptors, want.Descriptors)
	}
	for key, v := range want.Status {
		if got.Status[key] != v {
			t.Errorf("%s is %q, wanted %q", key, got.Status[key], v)
		}
	}
	have, wanted := slices.Sorted(slices.Values(got.Mounts)), slices.Sorted(slices.Values(want.Mounts))
	for _, m := range have {
		if !slices.ContainsFunc(wanted, func(w string) bool { return same(m, w) }) {
			t.Errorf("mount %q is not to be there", m)
		}
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(have, func(m string) bool { return same(m, w) }) {
			t.Errorf("mount %q is missing", w)
		}
	}
	if len(have) != len(wanted) {
		t.Errorf("%d mounts, wanted %d: %q", len(have), len(wanted), have)
	}
	root := strings.Fields("bin dev etc home proc root run sys tmp usr var")
	if !slices.Equal(got.Root, root) {
		t.Errorf("in the root: %q, wanted %q", got.Root, root)
	}
}

// same compares mounts; a type of * in the second is any.
func same(m, w string) bool {
	a, b := strings.Fields(m), strings.Fields(w)
	return a[0] == b[0] && (b[1] == "*" || a[1] == b[1]) && a[2] == b[2]
}

// mounts are those of a container of a pod with namespaces of its own.
func mounts(privileged bool) []string {
	access := "ro"
	if privileged {
		access = "rw"
	}
	out := []string{
		"/ overlay rw,relatime", "/proc proc rw,nosuid,nodev,noexec,relatime", "/dev tmpfs rw,nosuid",
		"/dev/pts devpts rw,nosuid,noexec,relatime", "/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime", "/dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime",
		"/sys sysfs " + access + ",nosuid,nodev,noexec,relatime",
		"/etc/hosts * rw,relatime", "/etc/hostname * rw,relatime", "/etc/resolv.conf * rw,relatime",
	}
	out = append(out, cgroupMounts(access)...)
	if privileged {
		return out
	}
	for _, p := range masked {
		if st, err := os.Stat(p); err == nil && st.IsDir() {
			out = append(out, p+" tmpfs ro,nosuid,nodev,noexec,relatime")
		} else if err == nil {
			out = append(out, p+" tmpfs rw,nosuid") // the null device's
		}
	}
	for _, p := range readonly {
		if _, err := os.Stat(p); err == nil {
			out = append(out, p+" proc ro,nosuid,nodev,noexec,relatime")
		}
	}
	return out
}

// cgroupMounts are the node's hierarchies.
func cgroupMounts(access string) []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup cgroup2 " + access + ",nosuid,nodev,noexec,relatime"}
	}
	out := []string{"/sys/fs/cgroup tmpfs " + access + ",nosuid,nodev,noexec,relatime"}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(text)) {
		if name := strings.TrimPrefix(strings.SplitN(line, ":", 3)[1], "name="); name != "" {
			out = append(out, "/sys/fs/cgroup/"+name+" cgroup "+access+",nosuid,nodev,noexec,relatime")
		}
	}
	return out
}
