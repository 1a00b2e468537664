package blackbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What the host has mounted below a volume is there again, from where it is now; a symlink in its place leads nowhere but into the volume.
func TestRootRestoreMountsBelowVolumes(t *testing.T) {
	d := withCRIU(t)
	config, volume := counter(t, "counts")
	config.Mounts[0].RecursiveReadOnly, config.Mounts[0].Readonly = true, true
	sub := filepath.Join(volume, "deep", "a disk")
	disk := func(label string) {
		t.Helper()
		check(t, os.MkdirAll(sub, 0o755))
		check(t, unix.Mount("berth-test", sub, "tmpfs", 0, "size=1m"))
		check(t, os.WriteFile(filepath.Join(sub, "label"), []byte(label), 0o644))
	}
	disk("old")
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })
	pod := d.RunPod(d.PodConfig("origin"))
	c := pod.Run(config)
	d.Eventually("the first line", func() bool { return strings.Contains(c.Output("stdout"), "line 1") })
	want(t, "the disk's label", c.Exec("cat '/data/deep/a disk/label'"), "old")
	had := c.Exec(mounts)
	location := checkpointTo(t, d, c)
	pod.Stop()
	pod.Remove()

	check(t, unix.Unmount(sub, 0))
	disk("new")
	config.Image.Image = location
	there := d.RunPod(d.PodConfig("there"))
	restored := there.Run(config)
	moves(d, restored)
	want(t, "mounts", restored.Exec(mounts), had)
	want(t, "the new disk's label", restored.Exec("cat '/data/deep/a disk/label'"), "new")
	want(t, "a write", restored.Exec("touch '/data/deep/a disk/x' 2>/dev/null || echo refused"), "refused")
	restored.Stop(0)

	check(t, unix.Unmount(sub, 0))
	check(t, os.Remove(sub))
	check(t, os.Symlink("/etc", sub))
	config.Metadata.Name = "astray"
	refused := there.Create(config)
	_, err := d.Runtime.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: refused.ID})
	wantError(t, err, codes.FailedPrecondition, "/data/deep/a disk")
	want(t, "state of a container whose restore failed", refused.Status().State, cri.ContainerState_CONTAINER_EXITED)
}
