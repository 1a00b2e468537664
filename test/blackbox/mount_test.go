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
	"github.com/berth-runtime/berth/test/images"
)

// tryCreate makes a container that may be refused.
func tryCreate(d *harness.Daemon, pod *harness.Pod, config *cri.ContainerConfig) error {
	_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	return err
}

// TestRootMissingHostPath: as with containerd and CRI-O it is made, as a directory, unless that can't be.
func TestRootMissingHostPath(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("missing")))
	config := harness.ContainerConfig("c", "touch /v/f; stat -c %a:%u /v")
	path := filepath.Join(d.Dir, "not", "there")
	config.Mounts = []*cri.Mount{{HostPath: path, ContainerPath: "/v"}}
	c := pod.Run(config)
	c.Wait()
	want(t, "what the container sees", c.Output("stdout"), "755:0\n")
	if _, err := os.Stat(filepath.Join(path, "f")); err != nil {
		t.Error(err)
	}

	file, link := filepath.Join(d.Dir, "file"), filepath.Join(d.Dir, "dangling")
	check(t, os.WriteFile(file, nil, 0o600))
	check(t, os.Symlink("/nonesuch", link))
	for _, bad := range []string{filepath.Join(file, "below"), link} {
		config := harness.ContainerConfig("bad", "true")
		config.Mounts = []*cri.Mount{{HostPath: bad, ContainerPath: "/v"}}
		wantError(t, tryCreate(d, pod, config), codes.InvalidArgument, "mounts[0].host_path", bad)
	}
	// What was made for a container that is refused for another reason goes again.
	config = harness.ContainerConfig("refused", "true")
	other := filepath.Join(d.Dir, "for", "nothing")
	config.Mounts = []*cri.Mount{{HostPath: other, ContainerPath: "/v"}}
	config.Linux.SecurityContext.RunAsUsername = "nobody-has-this-name"
	wantError(t, tryCreate(d, pod, config), codes.InvalidArgument, "nobody-has-this-name")
	if _, err := os.Stat(filepath.Dir(other)); !os.IsNotExist(err) {
		t.Errorf("it was made for nothing: %v", err)
	}
}

// TestRootPropagationNeedsASharedMount: what can't propagate is refused, and said.
func TestRootPropagationNeedsASharedMount(t *testing.T) {
	d := start(t)
	config := d.PodConfig("private")
	config.Linux.SecurityContext.Privileged = true
	pod := d.RunPod(harness.OnHostNetwork(config))
	dir := volumeDir(t, d, "private")
	check(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	t.Cleanup(func() { check(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	check(t, unix.Mount("", dir, "", unix.MS_PRIVATE, ""))
	check(t, os.Mkdir(filepath.Join(dir, "below"), 0o755))
	container := harness.ContainerConfig("c", "true")
	container.Linux.SecurityContext.Privileged = true
	container.Mounts = []*cri.Mount{{HostPath: filepath.Join(dir, "below"), ContainerPath: "/v", Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL}}
	wantError(t, tryCreate(d, pod, container), codes.InvalidArgument, "mounts[0].host_path", filepath.Join(dir, "below"), "shared mount", "BIDIRECTIONAL", dir+" is not")
}

// TestRootMountOptions: CRI's noexec, nodev and nosuid, and the three ways in which recursive read-only is refused.
func TestRootMountOptions(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("options")))
	dir := volumeDir(t, d, "options")
	check(t, os.WriteFile(filepath.Join(dir, "program"), []byte("#!/bin/sh\necho runs\n"), 0o755))
	config := harness.ContainerConfig("c", harness.Sleep)
	config.Mounts = []*cri.Mount{
		{HostPath: dir, ContainerPath: "/plain"},
		{HostPath: dir, ContainerPath: "/no", MountOptions: []string{"noexec", "nodev", "nosuid"}},
		{HostPath: dir, ContainerPath: "/ro", Readonly: true, MountOptions: []string{"noexec"}},
	}
	c := pod.Run(config)
	want(t, "a program", c.Exec("/plain/program; /no/program 2>&1; /ro/program 2>&1; true"), "runs\nsh: /no/program: Permission denied\nsh: /ro/program: Permission denied")
	options := c.Exec("grep ' /no ' /proc/self/mounts | cut -d' ' -f4")
	for _, o := range []string{"noexec", "nodev", "nosuid"} {
		if !strings.Contains(options, o) {
			t.Errorf("the mount's options are %s, without %s", options, o)
		}
	}
	want(t, "mount_options in the status", strings.Join(c.Status().Mounts[1].MountOptions, " "), "noexec nodev nosuid")

	for _, bad := range []struct {
		mount *cri.Mount
		field string
	}{
		{&cri.Mount{MountOptions: []string{"suid"}}, "mounts[0].mount_options[0]"},
		{&cri.Mount{RecursiveReadOnly: true}, "mounts[0].recursive_read_only"},
		{&cri.Mount{RecursiveReadOnly: true, Readonly: true, Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}, "mounts[0].recursive_read_only"},
		{&cri.Mount{RecursiveReadOnly: true, Readonly: true, Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL}, "mounts[0].recursive_read_only"},
	} {
		bad.mount.HostPath, bad.mount.ContainerPath = dir, "/v"
		config := harness.ContainerConfig("bad", "true")
		config.Mounts = []*cri.Mount{bad.mount}
		wantError(t, tryCreate(d, pod, config), codes.InvalidArgument, bad.field)
	}
}

// TestRootDeclaredVolumes: what an image declares as volumes is writable, has the image's content with its owners, and is
// each container's own.
func TestRootDeclaredVolumes(t *testing.T) {
	d := start(t, images.Volumes)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("declared")))
	users := d.RunPod(inUserNamespace(d.PodConfig("declared-mapped")))
	const look = "cat /data/file; stat -c '%a %u %g' /data /data/file /srv/new; readlink /data/out | tail -c 12; mount | grep -c ' on /data '; touch /data/new /srv/new/new"
	const sees = "of the image\n1770 33 34\n640 1000 1001\n755 0 0\n/etc/passwd\n1"
	for name, p := range map[string]*harness.Pod{"plain": pod, "mapped": users, "again": pod} {
		config := harness.ContainerConfig(name, harness.Sleep)
		config.Image.Image = images.Volumes
		config.Linux.SecurityContext.ReadonlyRootfs = true
		c := p.Run(config)
		want(t, "what "+name+" sees", c.Exec("[ ! -e /data/new ] && "+look), sees)
		want(t, "proc", c.Exec("cat /proc/1/comm"), "sh")
	}
	config := harness.ContainerConfig("own", "cat /data/file; ls /srv/new")
	config.Image.Image = images.Volumes
	config.Mounts = []*cri.Mount{{HostPath: volumeDir(t, d, "mine"), ContainerPath: "/data/"}}
	c := pod.Run(config)
	c.Wait()
	want(t, "with a volume of the client's", c.Output("stdout"), "mine\n")
}

func TestRootImageVolumes(t *testing.T) {
	const volume = staging + "test-image-1:latest"
	d := start(t, images.Busybox, volume)
	pod := d.RunPod(d.PodConfig("images"))
	users := d.RunPod(inUserNamespace(d.PodConfig("images-mapped")))
	config := func(name string) *cri.ContainerConfig {
		c := harness.ContainerConfig(name, harness.Sleep)
		c.Mounts = []*cri.Mount{
			{ContainerPath: "/image", Image: &cri.ImageSpec{Image: volume}, Readonly: true},
			{ContainerPath: "/part", Image: &cri.ImageSpec{Image: volume}, Readonly: true, ImageSubPath: "etc", MountOptions: []string{"noexec"}},
			{ContainerPath: "/one", Image: &cri.ImageSpec{Image: volume}, Readonly: true, ImageSubPath: "etc/variant"},
		}
		return c
	}
	plain, mapped, created := pod.Run(config("plain")), users.Run(config("mapped")), pod.Create(config("created"))
	// The image may go, by kubelet's collection: who uses it keeps the layers.
	_, err := d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: volume}})
	check(t, err)
	created.Start()
	for _, c := range []*harness.Container{plain, mapped, created} {
		want(t, "content in "+c.Config.Metadata.Name, c.Exec("cat /image/etc/variant /part/variant /one; /image/bin/busybox echo runs; stat -c %u:%g /image /part /one"), "1\n1\n1\nruns\n0:0\n0:0\n0:0")
		for _, path := range []string{"/image/new", "/part/new", "/one"} {
			r, err := c.TryExec(10, "touch", path)
			if err != nil || r.ExitCode == 0 || !strings.Contains(string(r.Stderr), "Read-only file system") {
				t.Errorf("a write to %s: %v, %v", path, r, err)
			}
		}
		if options := c.Exec("grep ' /part ' /proc/self/mounts"); !strings.Contains(options, "noexec") {
			t.Errorf("options of /part: %s", options)
		}
	}
	mounts := plain.Status().Mounts
	if len(mounts) != 3 || mounts[0].Image.GetImage() == "" || mounts[1].ImageSubPath != "etc" {
		t.Errorf("mounts in the status: %v", mounts)
	}

	d.Pull(volume)
	for name, bad := range map[string]struct {
		mount *cri.Mount
		code  codes.Code
		words []string
	}{
		"writable":      {&cri.Mount{Image: &cri.ImageSpec{Image: volume}}, codes.InvalidArgument, []string{"mounts[0].readonly"}},
		"a host path":   {&cri.Mount{Image: &cri.ImageSpec{Image: volume}, Readonly: true, HostPath: "/tmp"}, codes.InvalidArgument, []string{"mounts[0].host_path"}},
		"climbing":      {&cri.Mount{Image: &cri.ImageSpec{Image: volume}, Readonly: true, ImageSubPath: "../x"}, codes.InvalidArgument, []string{"mounts[0].image_sub_path"}},
		"no such image": {&cri.Mount{Image: &cri.ImageSpec{Image: "registry.k8s.io/no/such:1"}, Readonly: true}, codes.NotFound, []string{"registry.k8s.io/no/such:1"}},
		"no such path":  {&cri.Mount{Image: &cri.ImageSpec{Image: volume}, Readonly: true, ImageSubPath: "no/such"}, codes.Unknown, []string{"ImageVolumeMountFailed: ", `image_sub_path "no/such"`, "no such file"}},
	} {
		bad.mount.ContainerPath = "/v"
		config := harness.ContainerConfig("bad", "true")
		config.Mounts = []*cri.Mount{bad.mount}
		err := tryCreate(d, pod, config)
		t.Log(name, err)
		wantError(t, err, bad.code, bad.words...)
	}
}

// TestRootUnmasked: no paths at all are what procMount Unmasked asks for.
func TestRootUnmasked(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("unmasked"))
	masked, readonly := []string{"/proc/kcore", "/proc/timer_list", "/sys/firmware"}, []string{"/proc/sys", "/proc/irq"}
	for name, says := range map[string]string{"masked": "rw\nro\nro", "unmasked": "rw"} {
		config := harness.ContainerConfig(name, "grep -E ' /proc(/| )' /proc/self/mounts | grep -v ' /proc/kcore\\| /proc/timer_list' | cut -d' ' -f4 | cut -d, -f1; wc -c < /proc/timer_list")
		if name == "masked" {
			config.Linux.SecurityContext.MaskedPaths, config.Linux.SecurityContext.ReadonlyPaths = masked, readonly
		}
		c := pod.Run(config)
		c.Wait()
		lines := strings.Split(strings.TrimSpace(c.Output("stdout")), "\n")
		want(t, "mounts in "+name, strings.Join(lines[:len(lines)-1], "\n"), says)
		want(t, "whether /proc/timer_list is empty in "+name, lines[len(lines)-1] == "0", name == "masked")
	}
}
