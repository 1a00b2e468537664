package blackbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

func TestRootExecSync(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("exec"))
	config := harness.ContainerConfig("main", harness.Sleep)
	config.Envs = []*cri.KeyValue{{Key: "FROM_CONTAINER", Value: []byte("yes")}}
	config.WorkingDir = "/home"
	c := pod.Run(config)

	r, err := c.TryExec(10, "sh", "-c", `echo out; echo err >&2; exit 7`)
	check(t, err)
	want(t, "stdout", string(r.Stdout), "out\n")
	want(t, "stderr", string(r.Stderr), "err\n")
	want(t, "exit code", r.ExitCode, 7)
	want(t, "environment", c.Exec("echo $FROM_CONTAINER"), "yes")
	want(t, "working directory", c.Exec("pwd"), "/home")
	want(t, "host name", c.Exec("hostname"), "exec")
	want(t, "PID 1 is the container's", c.Exec("tr '\\0' ' ' < /proc/1/cmdline | cut -c1-5"), "sh -c")
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		want(t, kind+" namespace", c.Exec("readlink /proc/self/ns/"+kind), c.Exec("readlink /proc/1/ns/"+kind))
	}
	want(t, "cgroups", c.Exec("cat /proc/self/cgroup | sort"), c.Exec("cat /proc/1/cgroup | sort"))
	want(t, "processes that stay", c.Exec("ls /proc | grep -c '^[0-9]*$' | awk '{print ($1 < 8)}'"), "1")

	for _, command := range [][]string{
		{"/no/such/program"}, {"no-such-program"}, {"/etc/passwd"}, {"/etc"}, {"/etc/passwd/below"}, append([]string{"echo"}, slices.Repeat([]string{strings.Repeat("x", 100<<10)}, 70)...),
	} {
		_, err = c.TryExec(10, command...)
		wantError(t, err, codes.InvalidArgument, command[0], "command can't be executed")
	}
	for _, command := range [][]string{nil, {""}, {"", "x"}, {"a\x00b"}, {"echo", "a\x00b"}, {"echo", strings.Repeat("x", 128<<10)}, {strings.Repeat("x", 3<<20)}} {
		_, err = c.TryExec(10, command...)
		wantError(t, err, codes.InvalidArgument, "cmd")
		_, err = d.Runtime.Exec(d.Context(), &cri.ExecRequest{ContainerId: c.ID, Cmd: command, Stdout: true})
		wantError(t, err, codes.InvalidArgument, "cmd")
	}
	big, err := c.TryExec(30, "sh", "-c", "dd if=/dev/zero bs=1024 count=20000 2>/dev/null | tr '\\0' x")
	check(t, err)
	if n := len(big.Stdout); n < 15<<20 || n > 16<<20 {
		t.Errorf("20 MB of output came back as %d bytes; CRI bounds it at 16 MiB", n)
	}
	_, err = d.Runtime.ExecSync(d.Context(), &cri.ExecSyncRequest{ContainerId: strings.Repeat("0", 64), Cmd: []string{"true"}})
	wantError(t, err, codes.NotFound, strings.Repeat("0", 64))
}

func TestRootExecTimeout(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("timeout")))
	c := pod.Run(harness.ContainerConfig("main", harness.Sleep))
	begin := time.Now()
	_, err := c.TryExec(1, "sh", "-c", "(trap '' TERM HUP; sleep 47.5) & sleep 47.5")
	wantError(t, err, codes.DeadlineExceeded)
	if took := time.Since(begin); took < time.Second || took > 10*time.Second {
		t.Errorf("a time-out of 1 s took %v", took)
	}
	d.Eventually("the timed-out command and its child to be gone", func() bool {
		return !strings.Contains(c.Exec("ps"), "sleep 47.5")
	})
	// Those that left its process group and its session, and those whose parents have ended, are gone with it.
	for _, script := range []string{
		"setsid sleep 48.5 & wait",
		"setsid sh -c 'setsid sleep 48.5 & sleep 48.5' & sleep 48.5",
		"(setsid sh -c '(setsid sleep 48.5 &) ; exit' &) ; sleep 48.5", // as daemons do it
		"while :; do setsid sleep 48.5 & sleep 0.005; done",
	} {
		_, err := c.TryExec(1, "sh", "-c", script)
		wantError(t, err, codes.DeadlineExceeded)
		if ps := c.Exec("ps"); strings.Contains(ps, "sleep 48.5") {
			t.Errorf("%s: left in the container:\n%s", script, ps)
			c.Exec("pkill -9 -f 'sleep 48.5'; true")
		}
	}
	// What it left when it had ended in time is not the time-out's business.
	_, err = c.TryExec(1, "sh", "-c", "setsid sleep 49.5 > /dev/null 2>&1 &")
	check(t, err)
	time.Sleep(1200 * time.Millisecond)
	want(t, "daemons of an exec that ended in time", c.Exec("ps | grep -c 'sleep 49[.]5'"), "1")
	// A child that keeps the output open does not keep the answer.
	begin = time.Now()
	r, err := c.TryExec(20, "sh", "-c", "sleep 15 & echo answer")
	check(t, err)
	want(t, "output", string(r.Stdout), "answer\n")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the answer waited %v for a child in the background", took)
	}
}

func TestRootExecInParallel(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("parallel")))
	c := pod.Run(harness.ContainerConfig("main", harness.Sleep))
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			for range 5 {
				word := strings.Repeat(string(rune('a'+i)), 100)
				r, err := c.TryExec(30, "echo", word)
				if err != nil || string(r.Stdout) != word+"\n" || r.ExitCode != 0 {
					t.Errorf("exec: %v, %v", r, err)
				}
			}
		})
	}
	wait.Wait()
}

func TestRootExecsAreBounded(t *testing.T) {
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: "[sandbox]\nmax_execs = 2\n"})
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("bounded")))
	volume := t.TempDir()
	config := harness.ContainerConfig("main", harness.Sleep)
	config.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/data"}}
	c := pod.Run(config)
	other := pod.Run(harness.ContainerConfig("other", harness.Sleep))
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(volume, name))
		return err == nil
	}
	var wait sync.WaitGroup
	for _, name := range []string{"first", "second"} {
		wait.Go(func() {
			if _, err := c.TryExec(60, "sh", "-c", "touch /data/"+name+"; until [ -e /data/end ]; do sleep 0.02; done"); err != nil {
				t.Error(err)
			}
		})
	}
	d.Eventually("two to run", func() bool { return exists("first") && exists("second") })
	_, err := c.TryExec(1, "touch", "/data/third")
	wantError(t, err, codes.ResourceExhausted, "2 others run in it", "too many execs at once")
	_, err = c.TryExec(0, "touch", "/data/third")
	wantError(t, err, codes.ResourceExhausted, "2 others run in it")
	want(t, "an exec in another container", other.Exec("echo yes"), "yes")
	wait.Go(func() { // comes to its turn
		if r, err := c.TryExec(60, "echo", "at last"); err != nil || string(r.Stdout) != "at last\n" {
			t.Errorf("%v, %v", r, err)
		}
	})
	check(t, os.WriteFile(filepath.Join(volume, "end"), nil, 0o600))
	wait.Wait()
	if exists("third") {
		t.Error("a refused exec ran")
	}
}

func TestRootExecOfStoppedContainer(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("stopped")))
	ended := pod.Run(harness.ContainerConfig("ended", "true"))
	ended.Wait()
	created := pod.Create(harness.ContainerConfig("created", "true"))
	for _, c := range []*harness.Container{ended, created} {
		if _, err := c.TryExec(5, "true"); err == nil {
			t.Errorf("an exec worked in container %s", c.Config.Metadata.Name)
		}
	}
}
