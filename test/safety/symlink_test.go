package safety

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

func volume(source, destination string) *cri.Mount {
	return &cri.Mount{HostPath: source, ContainerPath: destination}
}

// CVE-2024-45310, and the class of CVE-2018-15664: an image that has a symlink out of it wherever
// something is mounted. Mountpoints must be made, and mounts attached, inside of the image.
//
// The defences: the host's root is gone before the first mountpoint is looked for (oci/program, pivot
// before mounts), and each is opened by openat2 in the container's root (mount.go, inRoot).
func TestRootSymlinksAtMountDestinations(t *testing.T) {
	dir := outside(t)
	d := start(t, "links")
	pod := d.RunPod(d.PodConfig("links"))
	source := t.TempDir()
	config := container("links", "links", "sh", "-c", "look; cat "+dir+"/secret 2>/dev/null; readlink /dev > /data/written")
	config.Mounts = []*cri.Mount{volume(source, "/data"), volume(source, "/chain/new/deep")}
	c := pod.Run(asKubelet(config))
	c.Wait()
	r := parse(t, c.Output("stdout")) // fails when the secret follows
	for _, want := range []string{"", "/pts", "/mqueue", "/shm"} {
		if !slices.ContainsFunc(r.Mounts, func(m string) bool { return strings.HasPrefix(m, dir+"/dev"+want+" ") }) {
			t.Errorf("nothing is mounted on %s/dev%s inside: %q", dir, want, r.at(dir))
		}
	}
	for _, want := range []string{"/data", "/data/new/deep", "/hosts", "/hostname", "/resolv.conf"} {
		if !slices.ContainsFunc(r.Mounts, func(m string) bool { return strings.HasPrefix(m, dir+want+" ") }) {
			t.Errorf("nothing is mounted on %s%s inside: %q", dir, want, r.at(dir))
		}
	}
	if text, err := os.ReadFile(filepath.Join(source, "written")); err != nil || !strings.Contains(string(text), "berth-test-outside/dev") {
		t.Errorf("what was written to the volume is %q: %v", text, err)
	}
}

// CVE-2019-16884, CVE-2019-19921, CVE-2023-27561: an image whose /proc or /sys is a symlink, so that what the runtime
// mounts, masks and writes there is elsewhere.
//
// The defence: paths below /proc and /sys are opened without following any link (oci/program, resolveFor).
func TestRootProcAndSysAsSymlinksAreRefused(t *testing.T) {
	outside(t)
	var names []string
	for _, what := range []string{"proc", "sys"} {
		for _, how := range []string{"relative", "absolute", "climb"} {
			names = append(names, what+"-"+how)
		}
	}
	d := start(t, names...)
	pod := d.RunPod(d.PodConfig("proc"))
	for _, name := range names {
		what, _, _ := strings.Cut(name, "-")
		config := container(name, name)
		config.Mounts = []*cri.Mount{volume(t.TempDir(), "/"+what+"-of-mine")}
		refused(t, d, pod, config, "on /"+what+": too many levels of symbolic links")
	}
}

// CVE-2019-16884, CVE-2023-27561, CVE-2025-52881: a volume whose destination is a symlink to proc or sysfs covers what
// the runtime writes (sysctls, security labels) or masks there.
//
// The defence: volumes are attached before proc and sysfs, which then cover them (oci/program, mounts).
func TestRootVolumesCannotCoverProcAndSys(t *testing.T) {
	d := start(t, "cover")
	pod := d.RunPod(d.PodConfig("cover"))
	bait := t.TempDir()
	for _, dir := range []string{"sys/net", "self/attr", "fs/cgroup", "acpi"} {
		if err := os.MkdirAll(filepath.Join(bait, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[string]string{
		"/proc": proc, "/proc/sys": proc, "/proc/sys/net": proc, "/proc/self/attr": proc, "/sys": sysfs, "/sys/kernel": sysfs,
	}
	maps.DeleteFunc(kinds, func(path, _ string) bool { _, err := os.Stat(path); return err != nil }) // not every kernel has all
	c := asKubelet(container("cover", "cover", append([]string{"look"}, slices.Collect(maps.Keys(kinds))...)...))
	for _, dest := range []string{"/on-proc", "/on-sys", "/on-sysctl", "/on-attr", "/on-cgroup", "/on-masked"} {
		c.Mounts = append(c.Mounts, volume(bait, dest))
	}
	r := look(t, pod, c)
	for path, want := range kinds {
		if r.Kinds[path] != want {
			t.Errorf("%s is on a file system of kind %s, wanted %s", path, r.Kinds[path], want)
		}
	}
	direct := container("direct", "cover")
	direct.Mounts = []*cri.Mount{volume(bait, "/proc/self/attr")}
	_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: direct, SandboxConfig: pod.Config})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a volume on /proc/self/attr: %v", err)
	}
}

// Kinds of file systems, as statfs(2) has them.
const (
	proc  = "9fa0"
	sysfs = "62656572"
)

// CVE-2021-30465, CVE-2024-45310: two containers of a pod share a volume, and one swaps a directory of
// it for a symlink to the host while the other is started with a mount on that directory.
//
// The defences are those of TestRootSymlinksAtMountDestinations: whichever of the two a start finds, it
// leads into the container.
func TestRootMountDestinationSwapped(t *testing.T) {
	dir := outside(t)
	d := start(t, "look")
	pod := d.RunPod(d.PodConfig("swap"))
	shared, source := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.Mkdir(shared+"/real", 0o755), os.Symlink("../../../../../../../.."+dir, shared+"/link"),
		os.WriteFile(source+"/mark", []byte("the volume's\n"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with the test
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, shared+"/real", unix.AT_FDCWD, shared+"/link", unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	started := 0
	for range 30 {
		c := pod.Create(swapped(shared, source, started))
		_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
		if err == nil {
			started++
			if s := c.Wait(); s.ExitCode != 0 {
				t.Errorf("code %d: %s", s.ExitCode, c.Output("stderr"))
			}
			if out := c.Output("stdout"); strings.Contains(out, "the host's") {
				t.Fatalf("the container reads the host's directory: %s", out)
			}
		}
		c.Remove()
	}
	if started == 0 {
		t.Error("none of 30 containers started")
	}
}

// swapped is a container with a mount below a directory of another mount, and below that again.
func swapped(shared, source string, n int) *cri.ContainerConfig {
	config := container("swap", "look", "sh", "-c", "find / -xdev -name secret | xargs -r cat; cat "+images.Outside+"/secret 2>/dev/null; true")
	config.Metadata.Attempt = uint32(n)
	config.Mounts = []*cri.Mount{volume(shared, "/shared"), volume(source, "/shared/real"), volume(source, "/shared/link/made")}
	return config
}

// CVE-2025-31133: the null device that files are masked with is replaced, so that something of the host
// is mounted over them, or that they are not masked.
//
// The defence: it is opened without following links, on the container's own /dev or not at all
// (oci/program, maskedPaths).
func TestRootMaskingWithAReplacedNullDevice(t *testing.T) {
	d := start(t, "look")
	pod := d.RunPod(d.PodConfig("null"))
	dev := t.TempDir()
	if err := os.Symlink("/proc/sys/kernel/core_pattern", dev+"/null"); err != nil {
		t.Fatal(err)
	}
	config := asKubelet(container("null", "look"))
	config.Mounts = []*cri.Mount{volume(dev, "/dev")}
	refused(t, d, pod, config, "open the null device for masked files: too many levels of symbolic links")
}

// CVE-2022-23648: an image declares a volume by a path that leads out of it, and gets the host's files.
//
// The defence: what an image declares is opened in its own root only (imagestore, openInside).
func TestRootImageVolumesStayInside(t *testing.T) {
	dir := outside(t)
	d := start(t, "volumes")
	pod := d.RunPod(d.PodConfig("volumes"))
	c := pod.Run(container("volumes", "volumes", "sh", "-c", "find / -xdev -name secret; find "+dir+"/ /linked/ /climbing/ -name secret; look"))
	c.Wait()
	if out := c.Output("stdout"); !strings.HasPrefix(out, "{") {
		t.Errorf("the container finds a secret: %s", out)
	}
	if at := parse(t, c.Output("stdout")).at(dir); len(at) == 0 {
		t.Error("the image's volume is not mounted")
	}
}

// The harness looks for mounts and files left on the host after each of these tests; this one makes
// sure that it would see one in the directory that the images lead to.
func TestRootOutsideIsWatched(t *testing.T) {
	harness.NeedRoot(t)
	if _, err := os.Lstat(images.Outside); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", images.Outside, err)
	}
}
