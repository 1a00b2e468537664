package blackbox

import (
	"archive/tar"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// origin is what is known of a container that is restored.
type origin struct {
	counted int
	mounts  string
}

// mounts are those of a container's first process, with their options.
const mounts = "cut -d ' ' -f 2-4 /proc/1/mounts | sed 's/,inode64//; s/,lowerdir=.*//' | sort"

// checkpointed gives a counter's checkpoint and its configuration for a restore, and what it had counted.
func checkpointed(t *testing.T, d *harness.Daemon) (config *cri.ContainerConfig, volume string, origin origin) {
	t.Helper()
	pod := d.RunPod(d.PodConfig("origin"))
	config, volume = counter(t, "counts")
	c := pod.Run(config)
	d.Eventually("the third line", func() bool { return strings.Contains(c.Output("stdout"), "line 3") })
	origin.mounts = c.Exec(mounts)
	location := checkpointTo(t, d, c)
	text := ""
	for name, content := range entries(t, location) {
		if name == metadata.RootFsDiffTar {
			path := filepath.Join(t.TempDir(), "diff.tar")
			check(t, os.WriteFile(path, []byte(content), 0o600))
			text = entries(t, path)["var/own/count"]
		}
	}
	lines := strings.Fields(text)
	counted, err := strconv.Atoi(lines[len(lines)-1])
	check(t, err)
	origin.counted = counted
	pod.Stop()
	pod.Remove()
	config.Image.Image = location
	return config, volume, origin
}

func TestRootRestoreContainer(t *testing.T) {
	d := withCRIU(t)
	config, volume, origin := checkpointed(t, d)
	counted := origin.counted
	pod := d.RunPod(d.PodConfig("there"))
	c := pod.Create(config)
	want(t, "state before the start", c.Status().State, cri.ContainerState_CONTAINER_CREATED)
	want(t, "image", c.Status().Image.Image, images.Busybox)
	c.Start()
	moves(d, c)
	now, err := strconv.Atoi(c.Exec("tail -n 1 /var/own/count"))
	check(t, err)
	if now < counted || now > counted+600 {
		t.Errorf("it counts from %d on, and was at %d", now, counted)
	}
	d.Eventually("the counter's first line", func() bool { return c.Output("stdout") != "" }) // which it writes after it has counted
	lines := strings.Split(c.Output("stdout"), "\n")
	if first, _ := strconv.Atoi(strings.TrimPrefix(lines[0], "line ")); first < counted-1 || first > counted+2 {
		t.Errorf("the new log begins with %q, and it had counted to %d", lines[0], counted)
	}
	want(t, "a file that it had removed", c.Exec("ls /etc/group 2>/dev/null || echo gone"), "gone")
	want(t, "hostname", c.Exec("hostname"), "there")
	want(t, "the process's own hostname", c.Exec("cat /proc/1/root/etc/hostname"), "there")
	want(t, "address", strings.Contains(c.Exec("ip addr show eth0"), pod.IP()), true)
	sibling := pod.Run(harness.ContainerConfig("sibling", harness.Sleep))
	for _, ns := range []string{"net", "ipc", "uts"} {
		want(t, "namespace "+ns+" of the pod", c.Exec("readlink /proc/1/ns/"+ns), sibling.Exec("readlink /proc/1/ns/"+ns))
	}
	want(t, "the pod's hostname", sibling.Exec("hostname"), "there")
	sibling.Exec("echo shared > /dev/shm/x")
	want(t, "the pod's shared memory", c.Exec("cat /dev/shm/x"), "shared")
	for _, line := range []string{"Seccomp:", "CapEff:", "NoNewPrivs:"} {
		want(t, line, c.Exec("grep "+line+" /proc/1/status"), c.Exec("grep "+line+" /proc/self/status"))
	}
	want(t, "cgroup", c.Exec("cat /proc/1/cgroup"), "0::/")
	want(t, "mounts", c.Exec(mounts), origin.mounts)
	if stats, err := d.Runtime.ContainerStats(t.Context(), &cri.ContainerStatsRequest{ContainerId: c.ID}); err != nil || stats.Stats.Memory.WorkingSetBytes.Value == 0 {
		t.Errorf("statistics: %v, %v", stats, err)
	}
	host, err := os.ReadFile("/proc/self/mountinfo")
	check(t, err)
	if strings.Contains(string(host), c.ID) {
		t.Error("the container is in the host's mount table")
	}
	check(t, os.WriteFile(filepath.Join(volume, "exit"), []byte("7"), 0o600))
	s := c.Wait()
	want(t, "exit code", s.ExitCode, 7)
	left, err := os.ReadDir(filepath.Join(d.Dir, "root", "checkpoints"))
	check(t, err)
	want(t, "checkpoints that are kept", len(left), 0)
}

// A restored container outlives the daemon, and can be checkpointed again.
func TestRootRestoreThenStop(t *testing.T) {
	d := withCRIU(t)
	config, volume, _ := checkpointed(t, d)
	check(t, os.RemoveAll(filepath.Join(volume, "exit")))
	pod := d.RunPod(d.PodConfig("there"))
	c := pod.Create(config)
	d.Kill()
	d.Restart() // what waits for the start is kept
	c.Start()
	moves(d, c)
	d.Kill()
	d.Restart()
	moves(d, c)
	d.MustCrictl("checkpoint", "--export="+filepath.Join(t.TempDir(), "again.tar"), c.ID)
	moves(d, c)
	c.Stop(1)
	want(t, "exit code after SIGKILL", c.Status().ExitCode, 137)
}

// What is no checkpoint is refused, before anything is made of it.
func TestRootRestoreRefusals(t *testing.T) {
	harness.NeedRoot(t)
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: "[sandbox]\ncriu = \"/nonexistent/criu\"\n"})
	pod := d.RunPod(d.PodConfig("refused"))
	dir := t.TempDir()
	archive := func(name string, files map[string]string) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		check(t, err)
		out := tar.NewWriter(f)
		for name, text := range files {
			check(t, out.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(text))}))
			_, err := io.WriteString(out, text)
			check(t, err)
		}
		check(t, errors.Join(out.Close(), f.Close()))
		return path
	}
	const spec = `{"process": {"cwd": "/", "args": ["sh"]}, "linux": {}}`
	known := `{"id": "x", "rootfsImageName": "` + images.Busybox + `"}`
	fifo := filepath.Join(dir, "fifo")
	check(t, unix.Mkfifo(fifo, 0o600))
	for _, w := range []struct {
		what, image string
		code        codes.Code
		words       string
	}{
		{"nothing", filepath.Join(dir, "none.tar"), codes.InvalidArgument, "no such file"},
		{"a directory", dir, codes.InvalidArgument, "not a regular file"},
		{"a FIFO", fifo, codes.InvalidArgument, "not a regular file"},
		{"an empty tar", archive("empty.tar", nil), codes.InvalidArgument, "config.dump and spec.dump"},
		{"no Spec", archive("specless.tar", map[string]string{"config.dump": known}), codes.InvalidArgument, "no spec.dump"},
		{"torn JSON", archive("torn.tar", map[string]string{"config.dump": "{", "spec.dump": spec}), codes.InvalidArgument, "config.dump"},
		{"an empty Spec", archive("void.tar", map[string]string{"config.dump": known, "spec.dump": "{}"}), codes.InvalidArgument, "no process"},
		{"no criu", archive("good.tar", map[string]string{"config.dump": known, "spec.dump": spec}), codes.FailedPrecondition, "/nonexistent/criu"},
	} {
		config := harness.ContainerConfig("restored", harness.Sleep)
		config.Image.Image = w.image
		_, err := d.Runtime.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		wantError(t, err, w.code, w.words)
	}
	left, err := os.ReadDir(filepath.Join(d.Dir, "root", "checkpoints"))
	if err == nil {
		want(t, "checkpoints that are kept", len(left), 0)
	}
}

// What a checkpoint doesn't have, a restored process can't get.
func TestRootRestoreMismatch(t *testing.T) {
	d := withCRIU(t)
	config, volume, _ := checkpointed(t, d)
	pod := d.RunPod(d.PodConfig("there"))
	good := config.Mounts
	for _, mounts := range [][]*cri.Mount{nil, append(good, &cri.Mount{HostPath: volume, ContainerPath: "/more"})} {
		config.Mounts = mounts
		_, err := d.Runtime.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		wantError(t, err, codes.FailedPrecondition, "mounts from outside")
	}
	config.Mounts = good
	d.MustCrictl("rmi", images.Busybox)
	_, err := d.Runtime.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	wantError(t, err, codes.NotFound, images.Busybox)
	d.Pull(images.Busybox)

	// Images that criu can't make anything of: the start fails with its words, and leaves nothing.
	config.Image.Image = rewritten(t, config.Image.Image, ": > checkpoint/pstree.img")
	c := pod.Create(config)
	_, err = d.Runtime.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
	if err == nil || !strings.Contains(err.Error(), "criu restore") {
		t.Errorf("start of a broken checkpoint: %v", err)
	}
	want(t, "state of a container whose restore failed", c.Status().State, cri.ContainerState_CONTAINER_EXITED)
	c.Remove()
}

// rewritten is a copy of an archive, whose files a script of the shell changes in its directory.
func rewritten(t *testing.T, archive, script string) string {
	t.Helper()
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "rewritten.tar")
	whole := `tar -xf "$1"; ` + script + `; tar -cf "$2" *`
	run := exec.Command("sh", "-ec", whole, "sh", archive, to)
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

// Archives as CRI-O and Podman write them: no layer when no file is new, and what the container removed in a list.
func TestRootRestoreOthersArchive(t *testing.T) {
	d := withCRIU(t)
	pod := d.RunPod(d.PodConfig("origin"))
	config := harness.ContainerConfig("sleeps", harness.Sleep)
	c := pod.Run(config)
	location := checkpointTo(t, d, c)
	const bare = "rm -rf rootfs-diff.tar checkpoint/external.json"
	for name, w := range map[string]struct{ script, left string }{
		"removes": {bare + `; echo '["/etc/group", "/bin/true"]' > deleted.files`, "gone"},
		"changes": {bare, "there"},
	} {
		config.Metadata.Name, config.Image.Image = name, rewritten(t, location, w.script)
		restored := pod.Run(config)
		want(t, name+": /etc/group", restored.Exec("test -e /etc/group && echo there || echo gone"), w.left)
		want(t, name+": /bin/true", restored.Exec("test -e /bin/true && echo there || echo gone"), w.left)
		want(t, name+": its neighbour", restored.Exec("test -e /etc/passwd && echo there || echo gone"), "there")
	}
	config.Metadata.Name, config.Image.Image = "torn", rewritten(t, location, "echo '{' > deleted.files")
	_, err := d.Runtime.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	wantError(t, err, codes.InvalidArgument, "deleted.files")
}

func TestRootRestorePod(t *testing.T) {
	d := withCRIU(t)
	pod := d.RunPod(d.PodConfig("pair"))
	a, b := counted(t, d, pod, "first"), counted(t, d, pod, "second")
	dir := t.TempDir()
	_, err := d.Runtime.CheckpointPod(t.Context(), &cri.CheckpointPodRequest{PodSandboxId: pod.ID, OutputPath: dir, ContainerIds: []string{a.ID, b.ID}})
	check(t, err)
	counted := a.Exec("tail -n 1 /var/own/count")
	request := &cri.RestorePodRequest{CheckpointPath: dir, Config: pod.Config, ContainerConfigs: []*cri.ContainerConfig{b.Config, a.Config}}
	_, err = d.Runtime.RestorePod(t.Context(), request)
	wantError(t, err, codes.AlreadyExists, pod.ID)
	moves(d, a) // and was left alone
	pod.Stop()
	pod.Remove()

	request.Config = d.PodConfig("pair-again")
	refusePod(t, d, request)
	request.ContainerConfigs[0].Linux.Resources = &cri.LinuxContainerResources{OomScoreAdj: 300} // the second's, of another node
	got := restorePodTwice(t, d, request)
	want(t, "restored containers", len(got.RestoredContainers), 2)
	want(t, "the first name", got.RestoredContainers[0].Name, "second")
	restored := d.Restored(got.PodSandboxId, request.Config)
	for _, r := range got.RestoredContainers {
		c := restored.Restored(r.ContainerId, a.Config)
		want(t, "state before the start", c.Status().State, cri.ContainerState_CONTAINER_CREATED)
		want(t, "name", c.Status().Metadata.Name, r.Name)
		c.Start()
		moves(d, c)
		want(t, "score of "+r.Name, c.Exec("cat /proc/1/oom_score_adj"), map[string]string{"first": "0", "second": "300"}[r.Name])
		now, _ := strconv.Atoi(c.Exec("tail -n 1 /var/own/count"))
		if was, _ := strconv.Atoi(counted); now < was-100 {
			t.Errorf("%s counts at %d, and was at %d", r.Name, now, was)
		}
		want(t, "address", strings.Contains(c.Exec("ip addr show eth0"), restored.IP()), true)
		if r.Name == "first" {
			check(t, os.WriteFile(filepath.Join(a.Config.Mounts[0].HostPath, "exit"), []byte("9"), 0o600))
			want(t, "exit code", c.Wait().ExitCode, 9)
		}
	}
	restored.Stop()
	restored.Remove()
	left, err := os.ReadDir(dir)
	check(t, err)
	want(t, "files of the checkpoint", len(left), 4)
}

// restorePodTwice restores a pod and asks for it again meanwhile, which finds the same, and afterwards, which finds that there is one.
func restorePodTwice(t *testing.T, d *harness.Daemon, request *cri.RestorePodRequest) *cri.RestorePodResponse {
	t.Helper()
	answers := make(chan *cri.RestorePodResponse, 2)
	for range 2 {
		go func() { // ends with its request
			got, err := d.Runtime.RestorePod(t.Context(), request)
			if err != nil {
				t.Errorf("restore pod: %v", err)
			}
			answers <- got
		}()
	}
	first, second := <-answers, <-answers
	if !proto.Equal(first, second) {
		t.Fatalf("restored %v, and at the same time %v", first, second)
	}
	_, err := d.Runtime.RestorePod(t.Context(), request)
	wantError(t, err, codes.AlreadyExists, first.PodSandboxId)
	return first
}

// refusePod tries what doesn't fit a checkpoint of containers first and second. Nothing of a pod is left.
func refusePod(t *testing.T, d *harness.Daemon, good *cri.RestorePodRequest) {
	t.Helper()
	for _, w := range []struct {
		what  string
		edit  func(*cri.RestorePodRequest)
		code  codes.Code
		words string
	}{
		{"no checkpoint", func(r *cri.RestorePodRequest) { r.CheckpointPath = t.TempDir() }, codes.InvalidArgument, "pod.options"},
		{"one container only", func(r *cri.RestorePodRequest) { r.ContainerConfigs = r.ContainerConfigs[:1] }, codes.InvalidArgument, "no configuration"},
		{"one twice", func(r *cri.RestorePodRequest) { r.ContainerConfigs[1] = r.ContainerConfigs[0] }, codes.InvalidArgument, "second time"},
		{"another name", func(r *cri.RestorePodRequest) { r.ContainerConfigs[0].Metadata.Name = "third" }, codes.InvalidArgument, "third"},
		{"another command", func(r *cri.RestorePodRequest) { r.ContainerConfigs[1].Command = []string{"sleep"} }, codes.FailedPrecondition, "command"},
		{"another user", func(r *cri.RestorePodRequest) {
			r.ContainerConfigs[1].Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 7}
		}, codes.FailedPrecondition, "user"},
		{"another environment", func(r *cri.RestorePodRequest) {
			r.ContainerConfigs[1].Envs = []*cri.KeyValue{{Key: "A", Value: []byte("b")}}
		}, codes.FailedPrecondition, "environment"},
		{"other masked paths", func(r *cri.RestorePodRequest) {
			r.ContainerConfigs[1].Linux.SecurityContext.MaskedPaths = []string{"/proc/keys"}
		}, codes.FailedPrecondition, "masked paths"},
		{"no volume", func(r *cri.RestorePodRequest) { r.ContainerConfigs[1].Mounts = nil }, codes.FailedPrecondition, "mounts"},
		{"an unknown image", func(r *cri.RestorePodRequest) { r.ContainerConfigs[1].Image.Image = "none:1" }, codes.NotFound, "none:1"},
	} {
		r := proto.Clone(good).(*cri.RestorePodRequest)
		w.edit(r)
		_, err := d.Runtime.RestorePod(t.Context(), r)
		wantError(t, err, w.code, w.words)
		pods, err := d.Runtime.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
		check(t, err)
		want(t, "pods after "+w.what, len(pods.Items), 0)
	}
}

// A program with threads and sockets: its connections outlive the checkpoint, and the restored one serves at its new pod's address.
func TestRootRestoreServer(t *testing.T) {
	d := withCRIU(t)
	d.Pull(images.Nginx)
	pod := d.RunPod(d.PodConfig("origin"))
	config := harness.ContainerConfig("web", "")
	config.Image.Image, config.Command, config.Args = images.Nginx, nil, nil
	config.Envs = []*cri.KeyValue{{Key: "GODEBUG", Value: []byte("multipathtcp=0")}} // criu knows no MPTCP
	c := pod.Run(config)
	conn := &http.Client{Timeout: 20 * time.Second} // keeps its connection
	ask := func(ip string) string {
		var text []byte
		d.Eventually("an answer from "+ip, func() bool {
			r, err := conn.Get("http://" + net.JoinHostPort(ip, "80") + "/")
			if err != nil {
				return false
			}
			defer r.Body.Close()
			text, err = io.ReadAll(r.Body)
			return err == nil
		})
		return string(text)
	}
	want(t, "answer", ask(pod.IP()), "hello from origin\n")
	asker := func(request int) string { // the address that the server's line of a request ends with
		var lines []string
		d.Eventually("the server's line", func() bool {
			lines = strings.Split(strings.TrimSpace(c.Output("stdout")), "\n")
			return len(lines) == request && lines[0] != ""
		})
		_, from, _ := strings.Cut(lines[request-1], " from ")
		return from
	}
	client := asker(1)
	location := checkpointTo(t, d, c)
	want(t, "answer after the checkpoint", ask(pod.IP()), "hello from origin\n")
	want(t, "the connection that asked", asker(2), client)

	config.Image.Image = location
	there := d.RunPod(d.PodConfig("there"))
	restored := there.Run(config)
	want(t, "answer of the restored server", ask(there.IP()), "hello from there\n")
	restored.Stop(10)
	want(t, "its exit code on SIGTERM", restored.Status().ExitCode, 0)
	want(t, "answer of the first one", ask(pod.IP()), "hello from origin\n")
}
