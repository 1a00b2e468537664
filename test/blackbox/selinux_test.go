package blackbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

const selinuxfs = "/sys/fs/selinux"

// needSELinux loads the tests' policy into a kernel that was booted with SELinux and has none yet.
func needSELinux(t *testing.T) {
	t.Helper()
	harness.NeedRoot(t)
	if lsm, err := os.ReadFile("/sys/kernel/security/lsm"); err != nil || !strings.Contains(string(lsm), "selinux") {
		t.Skip("this kernel has no SELinux, or was booted without it")
	}
	switch own := ownLabel(t); {
	case strings.Contains(own, ":host_t:"):
		return // an earlier test has loaded it
	case own != "kernel":
		t.Skipf("this machine has a policy of its own, which makes this process %s", own)
	}
	loadPolicy(t)
	if own := ownLabel(t); !strings.HasPrefix(own, "system_u:system_r:host_t:") {
		t.Fatalf("with the policy the label is %q", own)
	}
}

func ownLabel(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/attr/current")
	check(t, err)
	return strings.Trim(string(text), "\x00\n")
}

// loadPolicy compiles the policy, and tells of it where runtimes look for containers' labels.
func loadPolicy(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("testdata/selinux.conf")
	check(t, err)
	var categories, sids strings.Builder
	for i := 1; i < 1024; i++ {
		fmt.Fprintf(&categories, "category c%d;\n", i)
	}
	for _, m := range regexp.MustCompile(`(?m)^sid (\w+)$`).FindAllStringSubmatch(string(text), -1) {
		context := "system_u:object_r:host_file_t:s0"
		if m[1] == "kernel" {
			context = "system_u:system_r:host_t:s0 - s0:c0.c1023"
		}
		fmt.Fprintf(&sids, "sid %s %s\n", m[1], context)
	}
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "policy.conf"), filepath.Join(dir, "policy")
	check(t, os.WriteFile(source, []byte(strings.NewReplacer("CATEGORIES\n", categories.String(), "SIDS\n", sids.String()).Replace(string(text))), 0o644))
	if out, err := exec.Command("checkpolicy", "-M", "-U", "allow", "-c", "33", "-o", binary, source).CombinedOutput(); err != nil {
		t.Fatalf("checkpolicy: %v: %s", err, out)
	}
	for path, text := range map[string]string{
		"/etc/selinux/config":                           "SELINUX=permissive\nSELINUXTYPE=berth-test\n",
		"/etc/selinux/berth-test/contexts/lxc_contexts": "process = \"system_u:system_r:container_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\nro_file = \"system_u:object_r:container_ro_file_t:s0\"\n",
	} {
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, []byte(text), 0o644))
	}
	if _, err := os.Stat(filepath.Join(selinuxfs, "load")); err != nil {
		check(t, unix.Mount("selinuxfs", selinuxfs, "selinuxfs", 0, ""))
	}
	policy, err := os.ReadFile(binary)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(selinuxfs, "load"), policy, 0o600))
}

// enforce makes the kernel refuse, not only label.
func enforce(t *testing.T) {
	t.Helper()
	set := func(mode string) { check(t, os.WriteFile(filepath.Join(selinuxfs, "enforce"), []byte(mode), 0o600)) }
	set("1")
	t.Cleanup(func() { set("0") })
}

// level is that of a label.
func level(t *testing.T, label string) string {
	t.Helper()
	parts := strings.SplitN(label, ":", 4)
	if len(parts) != 4 {
		t.Fatalf("%q is no label", label)
	}
	return parts[3]
}

// Commands that print the label of an exec, and of a container's first process.
const (
	currentLabel = "tr -d '\\0' < /proc/self/attr/current"
	firstLabel   = "tr -d '\\0' < /proc/1/attr/current"
)

// fileLabel reads the label of a file of the host.
func fileLabel(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, "security.selinux", buf)
	check(t, err)
	return strings.TrimRight(string(buf[:n]), "\x00")
}

func TestRootSELinuxLabels(t *testing.T) {
	needSELinux(t)
	d := start(t)
	config := d.PodConfig("labels")
	config.Linux.SecurityContext.Privileged = true
	pod := d.RunPod(config)
	a, b := pod.Run(harness.ContainerConfig("a", harness.Sleep)), pod.Run(harness.ContainerConfig("b", harness.Sleep))
	process := a.Exec(currentLabel)
	pair := level(t, process)
	want(t, "label", process, "system_u:system_r:container_t:"+pair)
	if !regexp.MustCompile(`^s0:c\d+,c\d+$`).MatchString(pair) {
		t.Errorf("level %q is no pair of categories", pair)
	}
	want(t, "label of the pod's other container", b.Exec(currentLabel), process)
	want(t, "label of the first process", a.Exec(firstLabel), process)
	mounts := a.Exec("grep -c 'context=\"*system_u:object_r:container_file_t:" + pair + "' /proc/mounts; grep ' / ' /proc/mounts | grep -c context=")
	if got := strings.Fields(mounts); got[0] < "4" || got[1] != "1" { // root, /dev, /dev/pts, /dev/shm
		t.Errorf("%s mounts have the label, %s of the root:\n%s", got[0], got[1], a.Exec("cat /proc/mounts"))
	}
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		want(t, "label of "+name, fileLabel(t, filepath.Join(d.State, "pods", pod.ID, name)), "system_u:object_r:container_file_t:"+pair)
	}
	other := d.RunPod(harness.OnHostNetwork(d.PodConfig("other"))).Run(harness.ContainerConfig("c", harness.Sleep))
	if theirs := level(t, other.Exec(currentLabel)); theirs == pair {
		t.Errorf("two pods have level %s", pair)
	}
	for name, c := range map[string]struct {
		options    *cri.SELinuxOption
		privileged bool
		label      string
	}{
		"own-level":       {&cri.SELinuxOption{Level: "s0:c7,c9"}, false, "system_u:system_r:container_t:s0:c7,c9"},
		"own-type":        {&cri.SELinuxOption{Type: "other_t"}, false, "system_u:system_r:other_t:" + pair},
		"privileged":      {nil, true, "system_u:system_r:spc_t:s0-s0:c0.c1023"},
		"privileged-type": {&cri.SELinuxOption{Type: "other_t"}, true, "system_u:system_r:other_t:" + pair},
	} {
		config := harness.ContainerConfig(name, harness.Sleep)
		config.Linux.SecurityContext.SelinuxOptions, config.Linux.SecurityContext.Privileged = c.options, c.privileged
		made := pod.Run(config)
		want(t, name, made.Exec(firstLabel), c.label)
		want(t, "exec in "+name, made.Exec(currentLabel), c.label)
	}
	d.Kill()
	d.Restart()
	want(t, "label of one started by the next daemon", pod.Run(harness.ContainerConfig("later", harness.Sleep)).Exec(currentLabel), process)
}

// TestRootSELinuxActs: a volume is its pod's, and the host's files are nobody's.
func TestRootSELinuxActs(t *testing.T) {
	needSELinux(t)
	d := start(t)
	enforce(t)
	volume, secret := t.TempDir(), t.TempDir()
	check(t, os.WriteFile(filepath.Join(volume, "file"), []byte("content\n"), 0o666))
	check(t, os.WriteFile(filepath.Join(secret, "file"), []byte("secret\n"), 0o666))
	mounts := []*cri.Mount{{HostPath: volume, ContainerPath: "/volume", SelinuxRelabel: true}, {HostPath: secret, ContainerPath: "/secret"}}
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Mounts = mounts
	pod := d.RunPod(d.PodConfig("mine"))
	c := pod.Run(config)
	want(t, "label of the volume's file", fileLabel(t, filepath.Join(volume, "file")), "system_u:object_r:container_file_t:"+level(t, c.Exec(currentLabel)))
	want(t, "the volume", c.Exec("cat /volume/file; echo more >> /volume/file; cat /etc/hostname; echo x > /dev/shm/x; echo y > /tmp/y; echo z > /dev/null; ls /dev/mqueue"), "content\nmine")
	reads := func(c *harness.Container, path string) string {
		return c.Exec("cat " + path + " 2>/dev/null || echo denied")
	}
	want(t, "what is not relabelled", reads(c, "/secret/file"), "denied")
	foreign := harness.ContainerConfig("foreign", harness.Sleep)
	foreign.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/volume"}}
	want(t, "another pod's volume", reads(d.RunPod(harness.OnHostNetwork(d.PodConfig("theirs"))).Run(foreign), "/volume/file"), "denied")
	privileged := d.PodConfig("privileged")
	privileged.Linux.SecurityContext.Privileged = true
	all := harness.ContainerConfig("all", harness.Sleep)
	all.Mounts, all.Linux.SecurityContext.Privileged = []*cri.Mount{{HostPath: secret, ContainerPath: "/secret"}}, true
	want(t, "for a privileged container", reads(d.RunPod(harness.OnHostNetwork(privileged)).Run(all), "/secret/file"), "secret")
}

// TestRootSELinuxFiles: what else a container has for files is its own, in a user namespace and on a terminal too.
func TestRootSELinuxFiles(t *testing.T) {
	needSELinux(t)
	d := start(t, images.Busybox)
	enforce(t)
	pod := d.RunPod(inUserNamespace(d.PodConfig("users")))
	config := mapped("c", harness.Sleep)
	config.Tty = true
	config.Mounts = []*cri.Mount{{ContainerPath: "/image", Image: &cri.ImageSpec{Image: images.Busybox}, Readonly: true}}
	c := pod.Run(config)
	want(t, "writes", c.Exec("echo a > /a; echo b > /dev/shm/b; ls /image | grep -c bin; echo d > /dev/null; test -c /dev/console; test -w /dev/mqueue && echo queue"), "1\nqueue")
	want(t, "a masked path", c.Exec("ls /proc/scsi /sys/firmware 2>&1 | grep -ci denied || true"), "0")
}

func TestRootSELinuxErrors(t *testing.T) {
	needSELinux(t)
	d := start(t)
	config := d.PodConfig("bad")
	config.Linux.SecurityContext.SelinuxOptions = &cri.SELinuxOption{Type: "no_such_t"}
	_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
	wantError(t, err, codes.InvalidArgument, "selinux_options", "no_such_t", "not a label of the node's SELinux policy")
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("good")))
	container := harness.ContainerConfig("host", "true")
	container.Mounts = []*cri.Mount{{HostPath: "/etc", ContainerPath: "/host", SelinuxRelabel: true}}
	_, err = d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: container, SandboxConfig: pod.Config})
	wantError(t, err, codes.InvalidArgument, "mounts[0].selinux_relabel", "/etc", "not relabelled")
}

// TestRootBadSELinuxLevel: a level's form is looked at on every node.
func TestRootBadSELinuxLevel(t *testing.T) {
	d := start(t)
	config := d.PodConfig("bad")
	config.Linux.SecurityContext.SelinuxOptions = &cri.SELinuxOption{Level: "s0:c1,c2:evil_t"}
	_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
	wantError(t, err, codes.InvalidArgument, "linux.security_context.selinux_options.level", "evil_t")
}
