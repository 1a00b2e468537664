package crash

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

var bed *registry.Server

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		server, _, err := registry.StartFull()
		if err != nil {
			fmt.Fprintln(os.Stderr, "test bed:", err)
			os.Exit(1)
		}
		bed = server
	}
	os.Exit(m.Run())
}

func start(t *testing.T) *harness.Daemon {
	t.Helper()
	return harness.Start(t, harness.Options{Registry: bed, Pull: []string{images.Busybox}})
}

// counter writes numbered lines as fast as a shell can, on both streams, until it is
// told to stop; then it says how many it wrote and exits with 42.
const counter = `trap 'echo "end $i"; exit 42' TERM
i=0; while :; do echo "line $i"; echo "also $i" >&2; i=$((i+1)); done`

// noGap holds the log of a counter that has ended against what it wrote.
func noGap(t *testing.T, c *harness.Container, atLeast int) {
	t.Helper()
	next := map[string]int{}
	last := -1
	for number, l := range c.Log() {
		var word string
		var n int
		if _, err := fmt.Sscanf(l.Text, "%s %d", &word, &n); err != nil || !l.Full {
			t.Fatalf("line %d of the log is %q, full: %v", number, l.Text, l.Full)
		}
		if word == "end" {
			last = n
			continue
		}
		if n != next[l.Stream] {
			t.Fatalf("line %d of the log, of %s, is number %d, wanted %d", number, l.Stream, n, next[l.Stream])
		}
		next[l.Stream]++
	}
	if last < 0 {
		t.Fatal("the log has no end")
	}
	// The signal may have come between the two lines of a round.
	for stream, n := range next {
		if n != last && n != last+1 {
			t.Errorf("%s ends with line %d, and %d were written", stream, n, last)
		}
	}
	if last < atLeast {
		t.Errorf("only %d lines were written, wanted at least %d", last, atLeast)
	}
}

func grows(d *harness.Daemon, c *harness.Container) {
	size := func() int64 {
		info, err := os.Stat(c.Status().LogPath)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	before := size()
	d.Eventually("the log to grow", func() bool { return size() > before+1000 })
}

// TestRootDaemonKilled is the promise of the whole design.
func TestRootDaemonKilled(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("counting"))
	c := pod.Run(harness.ContainerConfig("counter", counter))
	gone := pod.Run(harness.ContainerConfig("gone", "sleep 0.5; exit 17"))
	grows(d, c)
	keeper, ip := d.Keeper(), pod.IP()
	for round := range 3 {
		d.Kill()
		time.Sleep(700 * time.Millisecond) // the other container ends meanwhile
		d.Restart()
		want(t, "keeper", d.Keeper(), keeper)
		want(t, "pod's state", pod.Status().State, cri.PodSandboxState_SANDBOX_READY)
		want(t, "pod's address", pod.IP(), ip)
		want(t, "container's state", c.Status().State, cri.ContainerState_CONTAINER_RUNNING)
		want(t, "exec", c.Exec(fmt.Sprintf("echo round %d", round)), fmt.Sprintf("round %d", round))
		grows(d, c)
		if s := gone.Status(); s.State != cri.ContainerState_CONTAINER_EXITED || s.ExitCode != 17 || s.FinishedAt == 0 {
			t.Errorf("the container that ended meanwhile is %v with exit code %d", s.State, s.ExitCode)
		}
	}
	want(t, "exit code of a container made after it all", pod.Run(harness.ContainerConfig("late", "exit 5")).Wait().ExitCode, 5)
	c.Stop(20)
	want(t, "exit code", c.Status().ExitCode, 42)
	noGap(t, c, 100)
}

func TestRootKeeperKilled(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("counting"))
	c := pod.Run(harness.ContainerConfig("counter", counter))
	gone := pod.Run(harness.ContainerConfig("gone", "while [ ! -e /tmp/go ]; do sleep 0.01; done; exit 17"))
	grows(d, c)
	daemon := d.PID()
	for round := range 5 {
		if round == 2 {
			endBetween(t, d, gone)
		} else {
			d.KillKeeper()
		}
		grows(d, c)
		want(t, "exec", c.Exec(fmt.Sprintf("echo round %d", round)), fmt.Sprintf("round %d", round))
		want(t, "container's state", c.Status().State, cri.ContainerState_CONTAINER_RUNNING)
	}
	want(t, "daemon", d.PID(), daemon)
	s := gone.Wait()
	if harness.ExitsOutliveKeepers() {
		want(t, "exit code of the container that ended without a keeper", s.ExitCode, 17)
	}
	want(t, "exit code of a container made after it all", pod.Run(harness.ContainerConfig("late", "exit 5")).Wait().ExitCode, 5)
	c.Stop(20)
	if harness.ExitsOutliveKeepers() {
		want(t, "exit code", c.Status().ExitCode, 42)
	}
	noGap(t, c, 100)
}

// TestRootTerminalSurvives kills both, one after the other, under a container with
// a terminal.
func TestRootTerminalSurvives(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("counting")))
	config := harness.ContainerConfig("counter", `stty -onlcr; trap 'echo "end $i"; exit 42' TERM
i=0; while :; do echo "line $i"; i=$((i+1)); done`)
	config.Tty, config.Stdin = true, true
	c := pod.Run(config)
	grows(d, c)
	for range 3 {
		d.KillKeeper()
		grows(d, c)
		d.Kill()
		d.Restart()
		grows(d, c)
		want(t, "container's state", c.Status().State, cri.ContainerState_CONTAINER_RUNNING)
	}
	c.Stop(20)
	if harness.ExitsOutliveKeepers() {
		want(t, "exit code", c.Status().ExitCode, 42)
	}
	noGap(t, c, 100)
}

// endBetween has a container end while the keeper is being killed. It is told to,
// and the keeper is stopped before it can reap it.
func endBetween(t *testing.T, d *harness.Daemon, c *harness.Container) {
	t.Helper()
	keeper := d.Keeper()
	c.Exec("touch /tmp/go")
	check(t, unix.Kill(keeper, unix.SIGSTOP))
	time.Sleep(100 * time.Millisecond)
	d.KillKeeper()
}

func TestRootBothKilled(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("counting"))
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	keeper := d.Keeper()
	d.Kill()
	check(t, unix.Kill(keeper, unix.SIGKILL))
	d.Restart()
	// Their pipes are broken, for nobody held the other ends: containers may have
	// ended by that. What is said of them must be true, and all must be removable.
	s := c.Status()
	if s.State == cri.ContainerState_CONTAINER_RUNNING {
		want(t, "exec", c.Exec("echo still there"), "still there")
	}
	pod.Remove()
	other := d.RunPod(d.PodConfig("after"))
	want(t, "exit code of a container afterwards", other.Run(harness.ContainerConfig("c", "exit 3")).Wait().ExitCode, 3)
}

// TestRootDaemonKilledDuringStop: the stop is finished by the next daemon's caller.
func TestRootDaemonKilledDuringStop(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("stopping"))
	c := pod.Run(harness.ContainerConfig("stubborn", `trap "" TERM; echo ready; while :; do sleep 0.2; done`))
	d.Eventually("the trap to be set", func() bool { return len(c.Log()) > 0 })
	go func() { // ends with the daemon
		_, _ = d.Runtime.StopContainer(d.Context(), &cri.StopContainerRequest{ContainerId: c.ID, Timeout: 30})
	}()
	time.Sleep(200 * time.Millisecond)
	d.Kill()
	d.Restart()
	c.Stop(1)
	want(t, "exit code", c.Status().ExitCode, 137)
}

// TestRootExecOutlivesNothing: an exec whose daemon dies is no exec that stays.
func TestRootExecDiesWithItsDaemon(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("exec")))
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	go func() { // ends with the daemon
		_, _ = c.TryExec(30, "sleep", "31.5")
	}()
	d.Eventually("the exec to run", func() bool { return strings.Contains(c.Exec("ps"), "sleep 31.5") })
	d.Kill()
	d.Restart()
	want(t, "another exec", c.Exec("echo works"), "works")
	d.Eventually("the exec that nobody waits for to end", func() bool { return !strings.Contains(c.Exec("ps"), "sleep 31.5") })
}

func TestRootRestartWithManyPods(t *testing.T) {
	const many = 50
	d := start(t)
	containers := make([]*harness.Container, many)
	for i := range containers {
		pod := d.RunPod(d.PodConfig(fmt.Sprintf("pod-%d", i)))
		containers[i] = pod.Run(harness.ContainerConfig("c", harness.Sleep))
	}
	for name, end := range map[string]func(){"Stop": d.Stop, "Kill": d.Kill} {
		end()
		begin := time.Now()
		d.Restart()
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("after %s the daemon took %v to answer with %d pods", name, took, many)
		}
		list, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{
			Filter: &cri.ContainerFilter{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}},
		})
		check(t, err)
		want(t, "running containers after "+name, len(list.Containers), many)
		for _, c := range containers[:5] {
			want(t, "exec after "+name, c.Exec("echo works"), "works")
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want[T comparable](t *testing.T, what string, got, expected T) {
	t.Helper()
	if got != expected {
		t.Errorf("%s is %v, wanted %v", what, got, expected)
	}
}
