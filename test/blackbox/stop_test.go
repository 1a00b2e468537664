package blackbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// TestRootRealTimeStopSignals: SIGRTMIN is 34 for the programs of every libc. In the
// pod's PID namespace no container's process is an init, to which the kernel passes only
// signals that it handles.
func TestRootRealTimeStopSignals(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(pidMode(d.PodConfig("shared"), cri.NamespaceMode_POD)))
	for signal, code := range map[cri.Signal]int32{
		cri.Signal_SIGNAL_SIGRTMIN: 128 + 34, cri.Signal_SIGNAL_SIGRTMINPLUS3: 128 + 37, cri.Signal_SIGNAL_SIGRTMAX: 128 + 64,
	} {
		config := containerPID(harness.ContainerConfig("c"+signal.String(), "exec sleep 1000"), cri.NamespaceMode_POD, "")
		config.StopSignal = signal
		c := pod.Run(config)
		want(t, "signal in the status", c.Status().StopSignal, signal)
		c.Stop(30)
		want(t, "exit code after "+signal.String(), c.Status().ExitCode, code)
	}
}

// TestRootImageStopSignal: an image that wants SIGRTMIN+3, as systemd's do.
func TestRootImageStopSignal(t *testing.T) {
	d := start(t, images.Busybox)
	program, err := images.Program("test/images/programs/signals")
	check(t, err)
	img, err := images.Single(new(images.Tree).File("signals", 0o755, program), v1.Config{Cmd: []string{"/signals"}, StopSignal: "SIGRTMIN+3"})
	check(t, err)
	const ref = "signals.berth.test/image:1"
	tag, err := name.NewTag(ref)
	check(t, err)
	archive := filepath.Join(t.TempDir(), "image.tar")
	check(t, tarball.WriteToFile(archive, tag, img))
	if out, err := d.Command("--socket", d.Socket, "images", "import", archive).CombinedOutput(); err != nil {
		t.Fatalf("import: %v: %s", err, out)
	}
	config := harness.ContainerConfig("c", "")
	config.Image.Image, config.Command = ref, nil
	c := d.RunPod(harness.OnHostNetwork(d.PodConfig("image"))).Run(config)
	d.Eventually("the program", func() bool { return len(c.Log()) == 1 })
	want(t, "signal in the status", c.Status().StopSignal, cri.Signal_SIGNAL_SIGRTMINPLUS3)
	c.Stop(30)
	want(t, "what it got", c.Output("stdout"), "ready\n37\n")
}

// TestRootStopOfWhatHangsInTheKernel: a process that writes to a frozen file system is in
// an uninterruptible wait. The stop says so, and succeeds when the wait is over.
func TestRootStopOfWhatHangsInTheKernel(t *testing.T) {
	dir := frozenVolume(t)
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("hang")))
	config := harness.ContainerConfig("c", "echo ready; sleep 0.2; echo x > /v/file; "+harness.Sleep)
	config.Mounts = []*cri.Mount{{HostPath: dir, ContainerPath: "/v"}}
	c := pod.Run(config)
	freeze(t, dir)
	d.Eventually("the first line", func() bool { return len(c.Log()) == 1 })
	time.Sleep(500 * time.Millisecond)
	_, err := d.Runtime.StopContainer(d.Context(), &cri.StopContainerRequest{ContainerId: c.ID})
	if err == nil {
		t.Fatal("what hangs was stopped")
	}
	for _, word := range []string{c.ID, "still alive after SIGKILL", "(sh)", "uninterruptible", "state D"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in the error %q", word, err)
		}
	}
	want(t, "state", c.Status().State, cri.ContainerState_CONTAINER_RUNNING)
	thaw(t, dir)
	c.Stop(0)
	want(t, "exit code", c.Status().ExitCode, 137)
}

// frozenVolume mounts an ext4 in a file, which freeze and thaw act on.
func frozenVolume(t *testing.T) string {
	t.Helper()
	harness.NeedRoot(t)
	dir := t.TempDir()
	image, mountpoint := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	check(t, os.Mkdir(mountpoint, 0o755))
	f, err := os.Create(image)
	check(t, err)
	check(t, f.Truncate(16<<20))
	check(t, f.Close())
	for _, command := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, mountpoint}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("this machine mounts no ext4 of a file: %v: %s", err, out)
		}
	}
	t.Cleanup(func() {
		_ = exec.Command("fsfreeze", "-u", mountpoint).Run() // fails when it is thawed already
		if out, err := exec.Command("umount", mountpoint).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return mountpoint
}

func freeze(t *testing.T, dir string) {
	t.Helper()
	if out, err := exec.Command("fsfreeze", "-f", dir).CombinedOutput(); err != nil {
		t.Fatalf("freeze: %v: %s", err, out)
	}
}

func thaw(t *testing.T, dir string) {
	t.Helper()
	if out, err := exec.Command("fsfreeze", "-u", dir).CombinedOutput(); err != nil {
		t.Fatalf("thaw: %v: %s", err, out)
	}
}
