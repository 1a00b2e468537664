package blackbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/berth-runtime/berth/test/harness"
)

// probes is how many execs TestRootProbesLeakNothing makes: BERTH_TEST_PROBES.
func probes(t *testing.T) int {
	text := os.Getenv("BERTH_TEST_PROBES")
	if text == "" {
		return 400
	}
	n, err := strconv.Atoi(text)
	check(t, err)
	return n
}

// holdings are what a process has open, how many threads, and its memory in bytes.
type holdings struct{ files, threads, memory int }

func holdingsOf(t *testing.T, pid int) holdings {
	t.Helper()
	count := func(dir string) int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, dir))
		check(t, err)
		return len(entries)
	}
	return holdings{count("fd"), count("task"), memoryOf(t, pid, "VmRSS:")}
}

// cgroupsBelow counts the control groups in that of a container.
func cgroupsBelow(t *testing.T, c *harness.Container) int {
	t.Helper()
	dirs, err := filepath.Glob("/sys/fs/cgroup/*" + c.Cgroup()) // a hierarchy each
	check(t, err)
	if harness.UnifiedCgroups() {
		dirs = []string{"/sys/fs/cgroup" + c.Cgroup()}
	}
	n := 0
	for _, dir := range dirs {
		check(t, filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				n++
			}
			return err
		}))
	}
	if n == 0 {
		t.Error("the container has no control group")
	}
	return n
}

// memoryGrowth is what the memory of a process may be more after the probes, in bytes: a garbage collector's heap
// swings. Of 10,000 probes a leak of one kilobyte each is more.
const memoryGrowth = 8 << 20

// TestRootProbesLeakNothing makes execs as kubelet's probes do: most succeed, some
// fail, some time out, some leave a child that keeps their output open.
func TestRootProbesLeakNothing(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("probes")))
	c := pod.Run(harness.ContainerConfig("main", harness.Sleep))
	probe := func(i int) {
		switch {
		case i%50 == 7:
			_, err := c.TryExec(1, "sh", "-c", "sleep 600 & setsid sleep 600 & (setsid sleep 600 &); sleep 600")
			wantError(t, err, codes.DeadlineExceeded)
		case i%50 == 13:
			r, err := c.TryExec(10, "sh", "-c", "sleep 2 & echo left a child")
			if err != nil || string(r.Stdout) != "left a child\n" {
				t.Errorf("probe %d: %v, %v", i, r, err)
			}
		case i%50 == 21:
			if _, err := c.TryExec(10, "/no/such/program"); err == nil {
				t.Errorf("probe %d: no error", i)
			}
		default:
			r, err := c.TryExec(10, "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%3))
			if err != nil || string(r.Stdout) != fmt.Sprintln(i) || r.ExitCode != int32(i%3) {
				t.Errorf("probe %d: %v, %v", i, r, err)
			}
		}
	}
	run := func(n int) {
		var wait sync.WaitGroup
		next := make(chan int)
		for range 8 {
			wait.Go(func() {
				for i := range next {
					probe(i)
				}
			})
		}
		for i := range n {
			next <- i
		}
		close(next)
		wait.Wait()
	}
	quiet := func() { // children that were left are gone, and what was closed is closed
		d.Eventually("the commands to be gone", func() bool { return !strings.Contains(c.Exec("ps"), "sleep 600") })
		time.Sleep(2500 * time.Millisecond)
	}
	run(100)
	quiet()
	groups := cgroupsBelow(t, c)
	daemon, keeper := holdingsOf(t, d.PID()), holdingsOf(t, d.Keeper())
	run(probes(t))
	quiet()
	for name, h := range map[string][2]holdings{
		"daemon": {daemon, holdingsOf(t, d.PID())}, "keeper": {keeper, holdingsOf(t, d.Keeper())},
	} {
		// The Go runtime keeps threads that it once needed, and connections come and go.
		if h[1].files > h[0].files+8 || h[1].threads > h[0].threads+16 || h[1].memory > h[0].memory+memoryGrowth {
			t.Errorf("%s: %+v before, %+v after", name, h[0], h[1])
		}
	}
	want(t, "control groups of the container", cgroupsBelow(t, c), groups)
	want(t, "processes of the container", c.Exec("ls -d /proc/[0-9]* | wc -l | awk '{print ($1 < 10)}'"), "1")
}
