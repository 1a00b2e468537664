package blackbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// zygotes are the processes that a keeper forks containers from.
func zygotes(t *testing.T, keeper int) []int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", keeper))
	check(t, err)
	var out []int
	for _, task := range tasks {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", keeper, task.Name()))
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(children)) {
			command, err := os.ReadFile("/proc/" + child + "/cmdline")
			if err == nil && strings.HasPrefix(string(command), "berth-zygote\x00") {
				pid, err := strconv.Atoi(child)
				check(t, err)
				out = append(out, pid)
			}
		}
	}
	return out
}

// Each launch copies a zygote's memory, and each execve takes the copy apart.
func TestRootZygotesAreSmall(t *testing.T) {
	d := start(t, images.Busybox)
	c := d.RunPod(harness.OnHostNetwork(d.PodConfig("small"))).Run(harness.ContainerConfig("c", harness.Sleep))
	c.Exec("true")
	found := zygotes(t, d.Keeper())
	if len(found) == 0 {
		t.Fatal("the keeper has no zygote")
	}
	for _, pid := range found {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		check(t, err)
		for line := range strings.Lines(string(status)) {
			f := strings.Fields(line)
			if f[0] != "RssAnon:" {
				continue
			}
			if kb, err := strconv.Atoi(f[1]); err != nil || kb > 1024 {
				t.Errorf("a zygote has %s KB of its own", f[1])
			}
		}
	}
}

func TestRootKilledZygotesAreReplaced(t *testing.T) {
	d := start(t, images.Busybox)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("killed")))
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	killed := zygotes(t, d.Keeper())
	for _, pid := range killed {
		check(t, unix.Kill(pid, unix.SIGKILL))
	}
	want(t, "an exec afterwards", strings.TrimSpace(c.Exec("echo fine")), "fine")
	want(t, "a start afterwards", pod.Run(harness.ContainerConfig("d", "exit 3")).Wait().ExitCode, 3)
	for _, pid := range zygotes(t, d.Keeper()) {
		for _, old := range killed {
			if pid == old {
				t.Errorf("zygote %d is still there", pid)
			}
		}
	}
}
