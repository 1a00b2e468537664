package blackbox

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

// imagesCommand runs berth images, and returns what it says.
func imagesCommand(d *harness.Daemon, args ...string) (string, error) {
	out, err := d.Command(append([]string{"--socket", d.Socket, "images"}, args...)...).CombinedOutput()
	return string(out), err
}

// TestRootExportedImageRuns carries an image from one daemon to another, through a pipe.
func TestRootExportedImageRuns(t *testing.T) {
	d := start(t)
	id := imageStatus(t, d, images.Busybox).Id
	other := harness.Start(t, harness.Options{Beside: d})
	archive, err := d.Command("--socket", d.Socket, "images", "export", images.Busybox).Output()
	check(t, err)
	load := other.Command("--socket", other.Socket, "images", "import", "-")
	load.Stdin = bytes.NewReader(archive)
	out, err := load.CombinedOutput()
	check(t, err)
	want(t, "what was imported", strings.TrimSpace(string(out)), id+" "+images.Busybox)
	pod := other.RunPod(other.PodConfig("imported"))
	want(t, "exit code", pod.Run(harness.ContainerConfig("c", "exit 7")).Wait().ExitCode, 7)
	if tool, err := exec.LookPath("skopeo"); err == nil {
		path := filepath.Join(t.TempDir(), "a.tar")
		check(t, os.WriteFile(path, archive, 0o600))
		if out, err := exec.Command(tool, "inspect", "--raw", "oci-archive:"+path).CombinedOutput(); err != nil {
			t.Errorf("skopeo: %v %s", err, out)
		}
	}
	if out, err := imagesCommand(d, "export", "registry.k8s.io/no/such:1"); err == nil || !strings.Contains(out, "no/such:1") {
		t.Errorf("of no image: %v %s", err, out)
	}
}

// TestRootVerifyRepairs damages a file of an image on the disk.
func TestRootVerifyRepairs(t *testing.T) {
	d := start(t)
	out, err := imagesCommand(d, "verify")
	if err != nil || strings.Contains(out, "damaged") || strings.Contains(out, "not checked") {
		t.Fatalf("%v: %s", err, out)
	}
	damageBusybox(t, d)
	if out, err = imagesCommand(d, "verify"); err == nil || !strings.Contains(out, "damaged: layer") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err = imagesCommand(d, "verify", "--repair"); err != nil || !strings.Contains(out, "repaired: layer") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err = imagesCommand(d, "verify"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	pod := d.RunPod(d.PodConfig("repaired"))
	want(t, "exit code", pod.Run(harness.ContainerConfig("c", "exit 7")).Wait().ExitCode, 7)
}

// damageBusybox cuts what has busybox of a layer: the file, or the layer, where that is one.
func damageBusybox(t *testing.T, d *harness.Daemon) {
	t.Helper()
	damaged := ""
	check(t, filepath.WalkDir(filepath.Join(d.Root, "images", "layers"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if e.Name() == "busybox" || bytes.Contains(content, []byte("bin/busybox")) && bytes.Contains(content, []byte("BusyBox v")) {
			damaged = path
		}
		return err
	}))
	if damaged == "" {
		t.Fatal("no busybox in the layers")
	}
	check(t, os.Truncate(damaged, 5000))
}

// TestRootVerifyRepairsWithoutRegistry: a node that keeps layers as they came needs none.
func TestRootVerifyRepairsWithoutRegistry(t *testing.T) {
	harness.NeedRoot(t)
	server, err := registry.Start()
	check(t, err)
	list, err := bed.builder.Catalog()
	check(t, err)
	check(t, server.Push(list...))
	d := harness.Start(t, harness.Options{Registry: server, Pull: []string{images.Busybox}, Config: "[images]\nkeep_blobs = true\n"})
	check(t, server.Close())
	damageBusybox(t, d)
	if out, err := imagesCommand(d, "verify", "--repair"); err != nil || !strings.Contains(out, "repaired: layer") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := imagesCommand(d, "verify"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	pod := d.RunPod(d.PodConfig("repaired"))
	want(t, "exit code", pod.Run(harness.ContainerConfig("c", "exit 7")).Wait().ExitCode, 7)
}

func TestRootPrune(t *testing.T) {
	d := start(t)
	d.Pull(staging + "test-image-1")
	digest := imageStatus(t, d, staging+"test-image-1").RepoDigests[0]
	_, err := imagesCommand(d, "rm", staging+"test-image-1")
	check(t, err)
	d.Pull(digest) // no tag
	d.Pull(staging + "test-image-2")
	pod := d.RunPod(d.PodConfig("user"))
	c := pod.Run(harness.ContainerConfig("c", "sleep 1000")) // of busybox
	left := func() int { t.Helper(); return len(listImages(t, d, "")) }
	if out, err := imagesCommand(d, "prune", "--dry-run"); err != nil || !strings.Contains(out, digest) || left() != 3 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := imagesCommand(d, "prune"); err != nil || !strings.Contains(out, digest) || left() != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := imagesCommand(d, "prune", "--all"); err != nil || left() != 1 {
		t.Errorf("%v: %s", err, out)
	}
	want(t, "the used image's tag", imageStatus(t, d, images.Busybox).RepoTags[0], images.Busybox)
	if out, err := imagesCommand(d, "rm", images.Busybox); err != nil || !strings.Contains(out, "its layers stay for 1 container: c ("+c.ID[:12]+")") || left() != 0 {
		t.Errorf("%v: %s", err, out)
	}
	want(t, "what runs in it", c.Exec("echo still"), "still")
	if out, err := imagesCommand(d, "prune"); err != nil || out != "nothing to remove\n" {
		t.Errorf("%v: %s", err, out)
	}
}
