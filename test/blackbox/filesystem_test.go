package blackbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/disk"
	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

func TestRootDaemonOnXFS(t *testing.T) { daemonOn(t, "xfs") }

func TestRootDaemonOnBtrfs(t *testing.T) { daemonOn(t, "btrfs") }

// daemonOn has a daemon's root on such a file system: an image is pulled, a container writes, and both go.
func daemonOn(t *testing.T, fstype string) {
	if !disk.Alone(t) {
		return
	}
	if _, err := exec.LookPath("mkfs." + fstype); err != nil {
		t.Skip("needs mkfs: ", err)
	}
	image, at := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	check(t, disk.FormatAs(fstype, image, 400<<20))
	if err := disk.MountAs(fstype, "", image, at); errors.Is(err, unix.ENODEV) {
		t.Skip("this kernel has no such file system: ", err)
	} else {
		check(t, err)
	}
	t.Cleanup(func() { // after the daemon
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("the file system is still in use: %v", err)
		}
	})
	t.Setenv("TMPDIR", at)
	check(t, os.Chmod(at, 0o711))
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}})
	var st unix.Statfs_t
	check(t, unix.Statfs(d.Root, &st))
	if st.Type != map[string]int64{"xfs": unix.XFS_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC}[fstype] {
		t.Fatalf("the daemon's root is on another file system, %#x", st.Type)
	}
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("on-" + fstype)))
	c := pod.Run(harness.ContainerConfig("c", "echo changed > /etc/passwd && rm -r /home && mkdir /home && echo new > /home/f && mv /home/f /f && cat /f /etc/passwd && exit 3"))
	want(t, "exit code", c.Wait().ExitCode, 3)
	want(t, "output", c.Output("stdout"), "new\nchanged\n")
	_, err := d.Runtime.RemovePodSandbox(d.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: pod.ID})
	check(t, err)
	_, err = d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: images.Busybox}})
	check(t, err)
	want(t, "images", len(listImages(t, d, "")), 0)
}
