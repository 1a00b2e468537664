package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// firstID is where the tests' user namespaces begin on the host: kubelet gives each pod 65,536 ids, at a multiple of that.
const firstID = 65536 * 20

func kubeletsMapping() []*cri.IDMapping {
	return []*cri.IDMapping{{ContainerId: 0, HostId: firstID, Length: 65536}}
}

func userNamespace() *cri.UserNamespace {
	return &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: kubeletsMapping(), Gids: kubeletsMapping()}
}

// inUserNamespace gives a pod a user namespace, as kubelet does.
func inUserNamespace(p *cri.PodSandboxConfig) *cri.PodSandboxConfig {
	p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userNamespace()
	return p
}

// mapped is a container of such a pod.
func mapped(name, script string) *cri.ContainerConfig {
	c := harness.ContainerConfig(name, script)
	c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userNamespace()
	return c
}

func ownerOf(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	check(t, err)
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

func TestRootUserNamespace(t *testing.T) {
	d := start(t)
	config := inUserNamespace(d.PodConfig("userns"))
	config.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"}
	pod := d.RunPod(config)
	volume, plain := volumeDir(t, d, "mapped"), volumeDir(t, d, "plain")
	check(t, os.Chown(filepath.Join(volume, "file"), 1000, 2000))
	check(t, os.Chmod(plain, 0o777))
	container := mapped("c", "echo out > /dev/stdout; echo err > /dev/stderr; "+harness.Sleep)
	container.Mounts = []*cri.Mount{
		{HostPath: volume, ContainerPath: "/mapped", UidMappings: kubeletsMapping(), GidMappings: kubeletsMapping()},
		{HostPath: plain, ContainerPath: "/plain"},
	}
	c := pod.Run(container)
	for _, says := range []struct{ what, script, expected string }{
		{"mapping", "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map", fmt.Sprintf("0 %d 65536\n 0 %d 65536", firstID, firstID)},
		{"user", "id -u; id -g", "0\n0"},
		{"owner of the root and of the image's files", "stat -c %u:%g / /bin/busybox /etc /proc/1", "0:0\n0:0\n0:0\n0:0"},
		{"owner of what is mounted", "stat -c %u:%g /dev /dev/shm /dev/pts /dev/mqueue /etc/hosts /etc/hostname /etc/resolv.conf", strings.Repeat("0:0\n", 6) + "0:0"},
		{"writing to the root", "touch /new && chown 5:6 /new && rm /etc/passwd && stat -c %u:%g /new", "5:6"},
		{"a mapped volume", "stat -c %u:%g /mapped/file && touch /mapped/new", "1000:2000"},
		{"a volume that isn't mapped", "stat -c %u /plain/file && touch /plain/new", "65534"},
		{"devices", "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c", "3\n3"},
		{"shared memory", "echo x > /dev/shm/a && cat /dev/shm/a", "x"},
		{"sysctls", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced", "80\n1"},
		{"sysctl of the pod's own network", "echo 81 > /proc/sys/net/ipv4/ip_unprivileged_port_start 2>/dev/null || echo refused", "refused"},
		{"cgroup", "ls -d /sys/fs/cgroup/*/tasks /sys/fs/cgroup/cgroup.procs 2>/dev/null | head -1 | wc -l", "1"},
		{"host name", "hostname", "userns"},
	} {
		want(t, says.what, c.Exec(says.script), strings.TrimSpace(says.expected))
	}
	want(t, "owner of a file in the mapped volume", ownerOf(t, filepath.Join(volume, "new")), "0:0")
	want(t, "owner of a file in the other", ownerOf(t, filepath.Join(plain, "new")), fmt.Sprintf("%d:%d", firstID, firstID))
	d.Eventually("both outputs", func() bool { return c.Output("stdout") == "out\n" && c.Output("stderr") == "err\n" })
	if r, err := c.TryExec(10, "chown", "70000", "/new"); err != nil || r.ExitCode == 0 {
		t.Errorf("a file was given to a user who is not mapped: %v, %v", r, err)
	}
	want(t, "uids in the status", pod.Status().Linux.Namespaces.Options.UsernsOptions.Uids[0].HostId, firstID)

	user := mapped("user", "id -u; echo as user > /dev/stdout; touch /home/f 2>&1; cat /proc/1/comm")
	user.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1000}
	u := pod.Run(user)
	u.Wait()
	want(t, "output of a user", strings.Fields(u.Output("stdout"))[0], "1000")
	if out := u.Output("stdout"); !strings.Contains(out, "as user") || !strings.Contains(out, "Permission denied") {
		t.Errorf("output of a user: %q", out)
	}
}

// TestRootUserNamespaceOwnsThePods: the pod's namespaces are the user namespace's own, so that capabilities count in them.
func TestRootUserNamespaceOwnsThePods(t *testing.T) {
	d := start(t)
	pod := d.RunPod(inUserNamespace(d.PodConfig("owns")))
	config := mapped("c", harness.Sleep)
	config.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"ALL"}}
	config.Linux.SecurityContext.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined} // the default one allows no mounts
	c := pod.Run(config)
	c.Exec("brctl addbr br7 && ip link set br7 up && ip link set br7 down && brctl delbr br7")
	c.Exec("hostname other")
	want(t, "host name", c.Exec("hostname"), "other")
	c.Exec("mkdir /tmp/m && mount -t tmpfs tmpfs /tmp/m && umount /tmp/m")
	if r, err := c.TryExec(10, "mknod", "/tmp/sda", "b", "8", "0"); err != nil || r.ExitCode == 0 {
		t.Errorf("a device was made: %v, %v", r, err)
	}
	if r, err := c.TryExec(10, "sh", "-c", "echo 1 > /proc/sys/vm/drop_caches"); err != nil || r.ExitCode == 0 {
		t.Errorf("a sysctl of the host was written: %v, %v", r, err)
	}
}

func TestRootUserNamespaceOnHostNetwork(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(inUserNamespace(d.PodConfig("host"))))
	c := pod.Run(mapped("c", harness.Sleep))
	want(t, "user of the host", c.Exec("cut -c1-30 /proc/self/uid_map | tr -s ' ' | cut -d' ' -f3"), fmt.Sprint(firstID))
	own, err := os.Readlink("/proc/self/ns/net")
	check(t, err)
	want(t, "network", c.Exec("readlink /proc/self/ns/net"), own)
	c.Exec("ls /sys/class/net/lo/")
	if r, err := c.TryExec(10, "sh", "-c", "echo x > /sys/kernel/mm/ksm/run"); err != nil || r.ExitCode == 0 {
		t.Errorf("the host's /sys was written to: %v, %v", r, err)
	}
	mounts := strings.Split(c.Exec("grep ' /sys' /proc/self/mounts"), "\n")
	for _, m := range mounts {
		if options := strings.Split(strings.Fields(m)[3], ","); !slices.Contains(options, "ro") {
			t.Errorf("writable: %s", m)
		}
	}
}

func TestRootUserNamespaceSharedPID(t *testing.T) {
	d := start(t)
	config := inUserNamespace(d.PodConfig("shared"))
	config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	pod := d.RunPod(config)
	container := mapped("c", harness.Sleep)
	container.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	c := pod.Run(container)
	want(t, "PID 1", c.Exec("tr '\\0' ' ' < /proc/1/cmdline; stat -c %u /proc/1"), "pause pause 65535")
}

// TestRootUserNamespaceRecovery: a pod in a user namespace takes containers after both processes were killed.
func TestRootUserNamespaceRecovery(t *testing.T) {
	d := start(t)
	config := inUserNamespace(d.PodConfig("recovery"))
	config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	pod := d.RunPod(config)
	asked := mapped("before", harness.Sleep)
	asked.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	before := pod.Run(asked)
	created := mapped("created", harness.Sleep)
	waiting := pod.Create(created)
	ns := before.Exec("readlink /proc/self/ns/user")
	d.KillKeeper()
	d.Eventually("the new keeper to have all", func() bool {
		r, err := before.TryExec(10, "true")
		return err == nil && r.ExitCode == 0
	})
	d.Kill()
	d.Restart()
	want(t, "user namespace of the one before", before.Exec("readlink /proc/self/ns/user; id -u"), ns+"\n0")
	waiting.Start()
	want(t, "of one that was created before", waiting.Exec("readlink /proc/self/ns/user; stat -c %u:%g /bin/sh"), ns+"\n0:0")
	after := pod.Run(mapped("after", harness.Sleep))
	want(t, "of one after", after.Exec("readlink /proc/self/ns/user; touch /x; stat -c %u:%g /x /bin/sh"), ns+"\n0:0\n0:0")
}

func TestRootUserNamespaceErrors(t *testing.T) {
	d := start(t)
	const field = "namespace_options.userns_options"
	for name, c := range map[string]struct {
		change func(*cri.UserNamespace)
		words  []string
	}{
		"two mappings": {func(u *cri.UserNamespace) { u.Uids = append(kubeletsMapping(), kubeletsMapping()...) }, []string{field + ".uids", "0 1310720 65536"}},
		"none":         {func(u *cri.UserNamespace) { u.Gids = nil }, []string{field + ".gids"}},
		"not from 0":   {func(u *cri.UserNamespace) { u.Uids[0].ContainerId = 1 }, []string{field + ".uids", "1 1310720 65536"}},
		"empty":        {func(u *cri.UserNamespace) { u.Gids[0].Length = 0 }, []string{field + ".gids[0]", "0 1310720 0"}},
		"too long":     {func(u *cri.UserNamespace) { u.Uids[0].Length = 1<<32 - 1 }, []string{field + ".uids[0]", "4294967295"}},
		"of container": {func(u *cri.UserNamespace) { u.Mode = cri.NamespaceMode_CONTAINER }, []string{field + ".mode", "container"}},
		"of target":    {func(u *cri.UserNamespace) { u.Mode = cri.NamespaceMode_TARGET }, []string{field + ".mode", "target"}},
		"of the node":  {func(u *cri.UserNamespace) { u.Mode = cri.NamespaceMode_NODE }, []string{field + ".uids"}},
	} {
		config := inUserNamespace(d.PodConfig("bad"))
		c.change(config.Linux.SecurityContext.NamespaceOptions.UsernsOptions)
		_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
		t.Log(name, err)
		wantError(t, err, codes.InvalidArgument, c.words...)
	}
	for _, what := range []string{"pid", "ipc"} {
		config := inUserNamespace(d.PodConfig("of-the-node"))
		if o := config.Linux.SecurityContext.NamespaceOptions; what == "pid" {
			o.Pid = cri.NamespaceMode_NODE
		} else {
			o.Ipc = cri.NamespaceMode_NODE
		}
		_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: config})
		wantError(t, err, codes.InvalidArgument, "namespace_options."+what, "node", "user namespace")
	}
	unmappable := mapped("proc", "true")
	unmappable.Mounts = []*cri.Mount{{HostPath: "/proc/sys", ContainerPath: "/v", UidMappings: kubeletsMapping(), GidMappings: kubeletsMapping()}}
	err := tryCreate(d, d.RunPod(harness.OnHostNetwork(inUserNamespace(d.PodConfig("proc")))), unmappable)
	wantError(t, err, codes.InvalidArgument, "mounts[0].uidMappings", "0 1310720 65536", "/proc/sys", "proc, can't be idmapped")
	config := inUserNamespace(d.PodConfig("small"))
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions.Uids[0].Length = 1000
	pod := d.RunPod(config)
	for field, change := range map[string]func(*cri.LinuxContainerSecurityContext){
		"run_as_user":         func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1000} },
		"supplemental_groups": func(s *cri.LinuxContainerSecurityContext) { s.SupplementalGroups = []int64{65536} },
	} {
		container := harness.ContainerConfig(field, "true")
		change(container.Linux.SecurityContext)
		_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: container, SandboxConfig: config})
		wantError(t, err, codes.InvalidArgument, field, "not mapped", "0 to ")
	}
}

// TestRootFeatures: what the daemon says that the node can do has been tried on it.
func TestRootFeatures(t *testing.T) {
	d := start(t)
	r, err := d.Runtime.Status(d.Context(), &cri.StatusRequest{})
	check(t, err)
	users, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	check(t, err)
	can := strings.TrimSpace(string(users)) != "0"
	for _, h := range r.RuntimeHandlers {
		want(t, "user namespaces of handler "+h.Name, h.Features.UserNamespaces, can)
		want(t, "recursive read-only mounts of handler "+h.Name, h.Features.RecursiveReadOnlyMounts, true)
	}
	want(t, "user namespaces on the host's network", r.Features.UserNamespacesHostNetwork, can)
	want(t, "supplemental groups policy", r.Features.SupplementalGroupsPolicy, true)
	want(t, "mount options", r.Features.MountOptions, true)
}
