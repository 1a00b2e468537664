package blackbox

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// counting writes a number each tenth of a second, to its output and to a file, and reads what to exit with.
const counting = `rm /etc/group; mkdir -p /var/own; i=0; while [ ! -e /data/exit ]; do i=$((i+1)); echo $i >> /var/own/count; echo line $i; sleep 0.1; done; exit $(cat /data/exit)`

// withCRIU is a daemon on a machine where criu works.
func withCRIU(t *testing.T) *harness.Daemon {
	t.Helper()
	harness.NeedRoot(t)
	if out, err := exec.Command("criu", "check").CombinedOutput(); err != nil { // it leaves /run/criu.kdat, once
		t.Skipf("no criu works on this kernel: %v: %s", err, out)
	}
	return harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}})
}

// counter is the configuration of a container that counts, with a volume by which it ends.
func counter(t *testing.T, name string) (config *cri.ContainerConfig, volume string) {
	t.Helper()
	volume = t.TempDir()
	config = harness.ContainerConfig(name, counting)
	config.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/data"}}
	config.Linux.SecurityContext.MaskedPaths, config.Linux.SecurityContext.ReadonlyPaths = []string{"/proc/kcore", "/sys/firmware"}, []string{"/proc/sys"}
	config.Linux.SecurityContext.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	return config, volume
}

// counted is a counter that counts, in a pod.
func counted(t *testing.T, d *harness.Daemon, pod *harness.Pod, name string) *harness.Container {
	t.Helper()
	config, _ := counter(t, name)
	c := pod.Run(config)
	d.Eventually("the first line", func() bool { return strings.Contains(c.Output("stdout"), "line 1") })
	return c
}

// checkpointTo checkpoints a container to an archive of its own.
func checkpointTo(t *testing.T, d *harness.Daemon, c *harness.Container) string {
	t.Helper()
	location := filepath.Join(t.TempDir(), "checkpoint.tar")
	_, err := d.Runtime.CheckpointContainer(t.Context(), &cri.CheckpointContainerRequest{ContainerId: c.ID, Location: location})
	check(t, err)
	return location
}

// moves waits until a counter has gone on.
func moves(d *harness.Daemon, c *harness.Container) {
	before := c.Exec("tail -n 1 /var/own/count")
	d.Eventually("the counter to go on", func() bool { return c.Exec("tail -n 1 /var/own/count") != before })
}

// entries are the names in a tar, and its files' contents up to a few KiB.
func entries(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	out := map[string]string{}
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		check(t, err)
		text, err := io.ReadAll(io.LimitReader(in, 64<<10))
		check(t, err)
		out[h.Name] = string(text)
	}
}

func TestRootCheckpointContainer(t *testing.T) {
	d := withCRIU(t)
	pod := d.RunPod(d.PodConfig("counted"))
	config, _ := counter(t, "counts")
	c := pod.Run(config)
	d.Eventually("the first line", func() bool { return strings.Contains(c.Output("stdout"), "line 3") })
	dir := t.TempDir()
	location := filepath.Join(dir, "counts.tar")
	d.MustCrictl("checkpoint", "--export="+location, c.ID)
	moves(d, c)
	want(t, "state after a checkpoint", c.Status().State, cri.ContainerState_CONTAINER_RUNNING)

	files := entries(t, location)
	for _, name := range []string{
		"checkpoint/inventory.img", "checkpoint/pstree.img", "checkpoint/descriptors.json", metadata.RootFsDiffTar, metadata.DumpLogFile, "stats-dump",
		metadata.NetworkStatusFile, metadata.StatusFile,
	} {
		if _, ok := files[name]; !ok {
			t.Errorf("no %s in the archive", name)
		}
	}
	at := t.TempDir()
	check(t, exec.Command("tar", "-x", "-C", at, "-f", location).Run())
	container, _, err := metadata.ReadContainerCheckpointConfigDump(at)
	check(t, err)
	want(t, "id in the archive", container.ID, c.ID)
	want(t, "image in the archive", container.RootfsImageName, images.Busybox)
	spec, _, err := metadata.ReadContainerCheckpointSpecDump(at)
	check(t, err)
	want(t, "pod's name for checkpointctl", spec.Annotations["io.kubernetes.cri.sandbox-name"], "counted")
	status, _, err := metadata.ReadContainerCheckpointNetworkStatus(at)
	check(t, err)
	want(t, "address in the archive", (*status)["berth"].Interfaces["eth0"].Subnets[0].IPNet, pod.IP()+"/32")
	diff := entries(t, filepath.Join(at, metadata.RootFsDiffTar))
	if _, ok := diff["etc/.wh.group"]; !ok {
		t.Error("a file that the container removed is not in what it changed")
	}
	if !strings.Contains(diff["var/own/count"], "\n") {
		t.Errorf("the container's file is not in what it changed: %q", diff)
	}
	left, err := os.ReadDir(dir)
	check(t, err)
	want(t, "files beside the archive", len(left), 1)

	// The same again: the archive is replaced.
	d.MustCrictl("checkpoint", "--export="+location, c.ID)
	moves(d, c)
}

// What the client does wrong is refused before criu is looked for.
func TestRootCheckpointRefusals(t *testing.T) {
	harness.NeedRoot(t)
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: "[sandbox]\ncriu = \"/nonexistent/criu\"\n"})
	pod := d.RunPod(d.PodConfig("refused"))
	running := pod.Run(harness.ContainerConfig("runs", harness.Sleep))
	created := pod.Create(harness.ContainerConfig("created", harness.Sleep))
	debugger := harness.ContainerConfig("debugger", harness.Sleep)
	debugger.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: running.ID}
	debugs := pod.Run(debugger)
	strangers := d.RunPod(d.PodConfig("other"))
	other := strangers.Run(harness.ContainerConfig("other", harness.Sleep))
	dir, full := t.TempDir(), t.TempDir()
	check(t, os.WriteFile(filepath.Join(full, "file"), nil, 0o600))
	file := filepath.Join(dir, "x.tar")
	for _, w := range []struct {
		what, id, location string
		code               codes.Code
		words              string
	}{
		{"no id", "", file, codes.InvalidArgument, "container_id"},
		{"an unknown id", "0123", file, codes.NotFound, "0123"},
		{"no location", running.ID, "", codes.InvalidArgument, "location"},
		{"a relative location", running.ID, "x.tar", codes.InvalidArgument, "absolute"},
		{"a directory", running.ID, dir, codes.InvalidArgument, "regular file"},
		{"no directory", running.ID, filepath.Join(dir, "none", "x.tar"), codes.InvalidArgument, "directory that exists"},
		{"a container that doesn't run", created.ID, file, codes.FailedPrecondition, "created"},
		{"another's PID namespace", debugs.ID, file, codes.FailedPrecondition, "PID namespace"},
		{"no criu", running.ID, file, codes.FailedPrecondition, "/nonexistent/criu"},
	} {
		_, err := d.Runtime.CheckpointContainer(t.Context(), &cri.CheckpointContainerRequest{ContainerId: w.id, Location: w.location})
		wantError(t, err, w.code, w.words)
	}
	for _, w := range []struct {
		what, id, output string
		containers       []string
		options          map[string]string
		code             codes.Code
		words            string
	}{
		{"no id", "", dir, []string{running.ID}, nil, codes.InvalidArgument, "pod_sandbox_id"},
		{"an unknown pod", "0123", dir, []string{running.ID}, nil, codes.NotFound, "0123"},
		{"no directory", pod.ID, "", []string{running.ID}, nil, codes.InvalidArgument, "output_path"},
		{"a directory that isn't there", pod.ID, filepath.Join(dir, "none"), []string{running.ID}, nil, codes.InvalidArgument, "must be a directory"},
		{"a full directory", pod.ID, full, []string{running.ID}, nil, codes.InvalidArgument, "empty"},
		{"no containers", pod.ID, dir, nil, nil, codes.InvalidArgument, "container_ids"},
		{"a container twice", pod.ID, dir, []string{running.ID, running.ID}, nil, codes.InvalidArgument, "second time"},
		{"another pod's container", pod.ID, dir, []string{other.ID}, nil, codes.InvalidArgument, "of the pod"},
		{"an unknown container", pod.ID, dir, []string{"0123"}, nil, codes.NotFound, "0123"},
		{"a container that doesn't run", pod.ID, dir, []string{created.ID}, nil, codes.FailedPrecondition, "created"},
		{"an option", pod.ID, dir, []string{running.ID}, map[string]string{"tcp": "close"}, codes.InvalidArgument, "no option"},
		{"no criu", pod.ID, dir, []string{running.ID}, nil, codes.FailedPrecondition, "/nonexistent/criu"},
	} {
		_, err := d.Runtime.CheckpointPod(t.Context(), &cri.CheckpointPodRequest{PodSandboxId: w.id, OutputPath: w.output, ContainerIds: w.containers, Options: w.options})
		wantError(t, err, w.code, w.words)
	}
	strangers.Stop()
	_, err := d.Runtime.CheckpointPod(t.Context(), &cri.CheckpointPodRequest{PodSandboxId: strangers.ID, OutputPath: dir, ContainerIds: []string{other.ID}})
	wantError(t, err, codes.FailedPrecondition, "pod")
	left, err := os.ReadDir(dir)
	check(t, err)
	want(t, "files left", len(left), 0)
}

// A checkpoint that takes too long leaves nothing, and the container runs on.
func TestRootCheckpointTooLate(t *testing.T) {
	d := withCRIU(t)
	pod, dir := d.RunPod(d.PodConfig("late")), t.TempDir()
	c := counted(t, d, pod, "counts")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := d.Runtime.CheckpointContainer(ctx, &cri.CheckpointContainerRequest{ContainerId: c.ID, Location: filepath.Join(dir, "x.tar")})
	wantError(t, err, codes.DeadlineExceeded, "")
	moves(d, c)
	left, err := os.ReadDir(dir)
	check(t, err)
	want(t, "files left", len(left), 0)

	// A pod's archives are made where they will be: what is left of them goes, when the client has gone already.
	request := &cri.CheckpointPodRequest{PodSandboxId: pod.ID, OutputPath: dir, ContainerIds: []string{c.ID}}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = d.Runtime.CheckpointPod(ctx, request)
	wantError(t, err, codes.DeadlineExceeded, "")
	moves(d, c)
	d.Eventually("the directory to be empty", func() bool {
		left, err := os.ReadDir(dir)
		return err == nil && len(left) == 0
	})
	d.Eventually("the same to succeed", func() bool {
		_, err := d.Runtime.CheckpointPod(t.Context(), request)
		return err == nil
	})
	moves(d, c)
}

func TestRootCheckpointPod(t *testing.T) {
	d := withCRIU(t)
	pod := d.RunPod(d.PodConfig("pair"))
	a, b := counted(t, d, pod, "first"), counted(t, d, pod, "second")
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := d.Runtime.CheckpointPod(ctx, &cri.CheckpointPodRequest{PodSandboxId: pod.ID, OutputPath: dir, ContainerIds: []string{a.ID, b.ID}})
	check(t, err)
	moves(d, a)
	moves(d, b)
	options, _, err := metadata.ReadCheckpointPodOptions(dir)
	check(t, err)
	want(t, "containers of the checkpoint", len(options.Containers), 2)
	want(t, "the first one's archive", options.Containers["first"], a.ID)
	for _, c := range []*harness.Container{a, b} {
		if _, ok := entries(t, filepath.Join(dir, c.ID+".tar"))["checkpoint/inventory.img"]; !ok {
			t.Errorf("no images in the archive of %s", c.ID)
		}
	}
	left, err := os.ReadDir(dir)
	check(t, err)
	want(t, "files in the directory", len(left), 4)
}

// When the daemon dies amid a checkpoint, the container goes on, and nothing is left of it.
func TestRootCheckpointOfAKilledDaemon(t *testing.T) {
	d := withCRIU(t)
	c, dir := counted(t, d, d.RunPod(d.PodConfig("survives")), "counts"), t.TempDir()
	answer := make(chan error, 1)
	go func() { // ends with the daemon
		_, err := d.Runtime.CheckpointContainer(t.Context(), &cri.CheckpointContainerRequest{ContainerId: c.ID, Location: filepath.Join(dir, "x.tar")})
		answer <- err
	}()
	begun := func() bool {
		found, _ := filepath.Glob(filepath.Join(d.Dir, "root/checkpoints/.*/checkpoint/*.img"))
		return len(found) > 0
	}
	for !begun() && len(answer) == 0 {
		time.Sleep(time.Millisecond)
	}
	d.Kill()
	archives := 0
	if err := <-answer; err == nil { // it was quicker
		archives = 1
	}
	d.Restart()
	moves(d, c)
	d.Eventually("what was begun to be removed", func() bool {
		left, err := os.ReadDir(filepath.Join(d.Dir, "root/checkpoints"))
		return err == nil && len(left) == 0
	})
	left, err := os.ReadDir(dir)
	check(t, err)
	want(t, "archives", len(left), archives)
}
