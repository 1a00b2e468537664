package blackbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

// mostPullMemory is what the daemon has at most, in bytes, whatever it pulls.
const mostPullMemory = 150e6

// TestRootPullMemory: neither the largest windows that are taken unasked, beside others, nor two such images at once make the daemon large.
func TestRootPullMemory(t *testing.T) {
	pullMemory(t, 0, "one.test/large:1", "two.test/large:1")
}

// TestRootPullMemoryOfFiles: so do layers of many files, more at once than there is room for.
func TestRootPullMemoryOfFiles(t *testing.T) {
	pullMemory(t, 11_000, "one.test/large:1")
	pullMemory(t, 11_000, "one.test/large:1", "two.test/large:1")
}

// pullMemory pulls images at once, with so many files in each of their layers, six and two.
func pullMemory(t *testing.T, files int, refs ...string) {
	harness.NeedRoot(t)
	server, err := registry.Start()
	check(t, err)
	t.Cleanup(func() { server.Close() })
	const mib = 1 << 20
	for host, windows := range map[string][]int{
		"one.test": {64 * mib, 8 * mib, 64 * mib, 32 * mib, 8 * mib, 8 * mib},
		"two.test": {64 * mib, 16 * mib},
	} {
		dir := t.TempDir()
		check(t, images.WriteWindows(dir, files, windows...))
		server.ServeFiles(host, dir)
	}
	d := harness.Start(t, harness.Options{Registry: server})
	before := memoryOf(t, d.PID(), "VmHWM:")
	var pulls sync.WaitGroup
	for _, ref := range refs {
		pulls.Go(func() {
			if _, err := d.Images.PullImage(d.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}}); err != nil {
				t.Error(err)
			}
		})
	}
	pulls.Wait()
	most := memoryOf(t, d.PID(), "VmHWM:")
	t.Logf("the daemon has %.0f MB at most, %.0f before", float64(most)/1e6, float64(before)/1e6)
	if most > mostPullMemory {
		t.Errorf("the daemon had %.0f MB while it pulled", float64(most)/1e6)
	}
}

// memoryOf reads a line of /proc/PID/status (proc_pid_status(5)), in bytes.
func memoryOf(t *testing.T, pid int, name string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	check(t, err)
	_, rest, found := strings.Cut(string(status), name)
	if !found {
		t.Fatalf("no %s in status", name)
	}
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	check(t, err)
	return kib << 10
}
