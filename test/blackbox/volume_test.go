package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

func inodeOf(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

// volumeDir is a directory with a file; it goes with the daemon's directory.
func volumeDir(t *testing.T, d *harness.Daemon, name string) string {
	t.Helper()
	dir := filepath.Join(d.Dir, "volumes", name)
	check(t, os.MkdirAll(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "file"), []byte(name+"\n"), 0o644))
	return dir
}

func TestRootVolumes(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("volumes")))
	writable, readonly := volumeDir(t, d, "writable"), volumeDir(t, d, "readonly")
	link := filepath.Join(d.Dir, "volumes", "link")
	check(t, os.Symlink(writable, link))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Mounts = []*cri.Mount{
		{HostPath: writable, ContainerPath: "/w"},
		{HostPath: readonly, ContainerPath: "/r", Readonly: true},
		{HostPath: filepath.Join(readonly, "file"), ContainerPath: "/etc/one-file"},
		{HostPath: link, ContainerPath: "/by/a/link"},
		{HostPath: readonly, ContainerPath: "/w/nested", Readonly: true},
	}
	c := pod.Run(config)
	want(t, "file of the host", c.Exec("cat /w/file"), "writable")
	c.Exec("echo from inside > /w/new")
	text, err := os.ReadFile(filepath.Join(writable, "new"))
	if err != nil || string(text) != "from inside\n" {
		t.Errorf("on the host: %q, %v", text, err)
	}
	r, err := c.TryExec(10, "touch", "/r/new")
	if err != nil || r.ExitCode == 0 || !strings.Contains(string(r.Stderr), "Read-only file system") {
		t.Errorf("a write to the read-only volume: %v, %v", r, err)
	}
	want(t, "a file as volume", c.Exec("cat /etc/one-file"), "readonly")
	want(t, "a symlink as source", c.Exec("cat /by/a/link/new"), "from inside")
	want(t, "a volume in a volume", c.Exec("cat /w/nested/file"), "readonly")
	mounts := c.Status().Mounts
	if len(mounts) != len(config.Mounts) || mounts[0].HostPath != writable || !mounts[1].Readonly {
		t.Errorf("mounts in the status: %v", mounts)
	}
}

// TestRootSubPath: kubelet resolves the subPath of a volume itself, and yet sends it as the image's.
func TestRootSubPath(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("sub")))
	path := filepath.Join(d.Dir, "volume", "a", "b")
	check(t, os.MkdirAll(path, 0o755))
	config := harness.ContainerConfig("c", "touch /v/f")
	config.Mounts = []*cri.Mount{{HostPath: path, ContainerPath: "/v", ImageSubPath: "a/b"}}
	want(t, "exit code", pod.Run(config).Wait().ExitCode, 0)
	if _, err := os.Stat(filepath.Join(path, "f")); err != nil {
		t.Error(err)
	}
}

func TestRootReadOnlyRecursive(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("recursive")))
	dir := volumeDir(t, d, "tree")
	inner := filepath.Join(dir, "inner")
	check(t, os.Mkdir(inner, 0o755))
	check(t, unix.Mount("tmpfs", inner, "tmpfs", 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount(inner, unix.MNT_DETACH)) })
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Mounts = []*cri.Mount{
		{HostPath: dir, ContainerPath: "/plain", Readonly: true},
		{HostPath: dir, ContainerPath: "/deep", Readonly: true, RecursiveReadOnly: true},
	}
	c := pod.Run(config)
	c.Exec("touch /plain/inner/allowed")
	if r, err := c.TryExec(10, "touch", "/deep/inner/refused"); err != nil || r.ExitCode == 0 {
		t.Errorf("a write below a recursively read-only volume: %v, %v", r, err)
	}
	t.Cleanup(c.Remove) // before inner is unmounted
}

func TestRootPropagation(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("propagation")))
	dir := volumeDir(t, d, "shared")
	// A mount of its own whose peers get what is mounted below it.
	check(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	check(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	unmount := func(path string) { _ = unix.Unmount(path, unix.MNT_DETACH) }
	t.Cleanup(func() { unmount(dir) })
	run := func(name string, p cri.MountPropagation) *harness.Container {
		config := harness.ContainerConfig(name, harness.Sleep)
		config.Mounts = []*cri.Mount{{HostPath: dir, ContainerPath: "/v", Propagation: p}}
		config.Linux.SecurityContext.Privileged = p == cri.MountPropagation_PROPAGATION_BIDIRECTIONAL
		return pod.Run(config)
	}
	privileged := d.PodConfig("privileged")
	privileged.Linux.SecurityContext.Privileged = true
	private, slave := run("private", cri.MountPropagation_PROPAGATION_PRIVATE), run("slave", cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER)
	pod = d.RunPod(harness.OnHostNetwork(privileged))
	both := run("both", cri.MountPropagation_PROPAGATION_BIDIRECTIONAL)
	containers := []*harness.Container{private, slave, both}
	t.Cleanup(func() {
		for _, c := range containers {
			c.Remove()
		}
	})

	for _, name := range []string{"from-host", "from-container"} {
		check(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	check(t, unix.Mount("tmpfs", filepath.Join(dir, "from-host"), "tmpfs", 0, ""))
	check(t, os.WriteFile(filepath.Join(dir, "from-host", "here"), nil, 0o644))
	for c, sees := range map[*harness.Container]string{private: "no", slave: "yes", both: "yes"} {
		want(t, "mount of the host in "+c.Config.Metadata.Name, c.Exec("[ -e /v/from-host/here ] && echo yes || echo no"), sees)
	}
	unmount(filepath.Join(dir, "from-host"))
	both.Exec("mount -t tmpfs tmpfs /v/from-container && touch /v/from-container/here")
	if _, err := os.Stat(filepath.Join(dir, "from-container", "here")); err != nil {
		t.Errorf("mount of the container on the host: %v", err)
	}
	want(t, "it in another container", slave.Exec("[ -e /v/from-container/here ] && echo yes || echo no"), "yes")
	unmount(filepath.Join(dir, "from-container"))
}

// What can't propagate is refused: a private mount tells nobody and hears nothing.
func TestRootPropagationNeedsItsKindOfMount(t *testing.T) {
	d := start(t)
	privileged := d.PodConfig("privileged")
	privileged.Linux.SecurityContext.Privileged = true
	pod := d.RunPod(harness.OnHostNetwork(privileged))
	dir := volumeDir(t, d, "kinds")
	check(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	mounted := func(flags ...uintptr) {
		for _, f := range flags {
			check(t, unix.Mount("", dir, "", f, ""))
		}
	}
	below := filepath.Join(dir, "below", "missing")
	for _, k := range []struct {
		name string
		make []uintptr
		asks cri.MountPropagation
		rule string // "": it runs
	}{
		{"private-private", []uintptr{unix.MS_PRIVATE}, cri.MountPropagation_PROPAGATION_PRIVATE, ""},
		{"private-slave", []uintptr{unix.MS_PRIVATE}, cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, "must be on a shared mount, or a slave of one, for HOST_TO_CONTAINER"},
		{"private-both", []uintptr{unix.MS_PRIVATE}, cri.MountPropagation_PROPAGATION_BIDIRECTIONAL, "must be on a shared mount for BIDIRECTIONAL"},
		{"shared-slave", []uintptr{unix.MS_SHARED}, cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, ""},
		{"shared-both", []uintptr{unix.MS_SHARED}, cri.MountPropagation_PROPAGATION_BIDIRECTIONAL, ""},
	} {
		mounted(k.make...)
		config := harness.ContainerConfig(k.name, harness.Sleep)
		config.Mounts = []*cri.Mount{{HostPath: below, ContainerPath: "/v", Propagation: k.asks}}
		config.Linux.SecurityContext.Privileged = true
		if k.rule == "" {
			pod.Run(config).Remove()
			continue
		}
		_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		wantError(t, err, codes.InvalidArgument, "mounts[0].host_path", below, k.rule, dir)
	}
	// A slave hears its master, and tells nobody.
	peer := volumeDir(t, d, "peer")
	check(t, unix.Mount(dir, peer, "", unix.MS_BIND, "")) // of a shared mount: its peer
	t.Cleanup(func() { _ = unix.Unmount(peer, unix.MNT_DETACH) })
	check(t, unix.Mount("", peer, "", unix.MS_SLAVE, ""))
	for asks, fine := range map[cri.MountPropagation]bool{cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER: true, cri.MountPropagation_PROPAGATION_BIDIRECTIONAL: false} {
		config := harness.ContainerConfig(fmt.Sprint("of-a-slave-", int(asks)), harness.Sleep)
		config.Mounts = []*cri.Mount{{HostPath: peer, ContainerPath: "/v", Propagation: asks}}
		config.Linux.SecurityContext.Privileged = true
		if fine {
			pod.Run(config).Remove()
			continue
		}
		_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		wantError(t, err, codes.InvalidArgument, "must be on a shared mount for BIDIRECTIONAL")
	}
}

// TestRootHostileMountpoint has symlinks where mounts go: they must lead nowhere but
// into the image.
func TestRootHostileMountpoint(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("hostile")))
	outside, volume := volumeDir(t, d, "outside"), volumeDir(t, d, "volume")
	tree := volumeDir(t, d, "tree")
	check(t, os.Symlink(strings.Repeat("../", 20)+outside, filepath.Join(tree, "out")))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Mounts = []*cri.Mount{
		{HostPath: tree, ContainerPath: "/tree"},
		{HostPath: volume, ContainerPath: "/tree/out/new"},
	}
	r, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	if err == nil {
		_, _ = d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: r.ContainerId}) // may be refused
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); !os.IsNotExist(err) {
		t.Errorf("a mount point was made outside: %v", err)
	}
}

// unpin takes a pinned namespace away, as an administrator might.
func unpin(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Remove(path)
}
