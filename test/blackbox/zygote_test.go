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

// Each launch copies a zygote's memory, and each execve takes the copy apart.
func TestRootZygotesAreSmall(t *testing.T) {
	d := start(t, images.Busybox)
	c := d.RunPod(harness.OnHostNetwork(d.PodConfig("small"))).Run(harness.ContainerConfig("c", harness.Sleep))
	c.Exec("true")
	found := d.Zygotes()
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
	killed := d.Zygotes()
	for _, pid := range killed {
		check(t, unix.Kill(pid, unix.SIGKILL))
	}
	d.Eventually("their end", func() bool { return len(d.Zygotes()) == 0 })
	want(t, "an exec afterwards", strings.TrimSpace(c.Exec("echo fine")), "fine")
	want(t, "a start afterwards", pod.Run(harness.ContainerConfig("d", "exit 3")).Wait().ExitCode, 3)
	for _, pid := range d.Zygotes() {
		for _, old := range killed {
			if pid == old {
				t.Errorf("zygote %d is still there", pid)
			}
		}
	}
}
