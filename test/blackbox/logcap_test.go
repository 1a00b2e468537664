package blackbox

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// TestRootLogCap: a log is cut off at its cap, while it is written to; what is left has no gap.
func TestRootLogCap(t *testing.T) {
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Config: "[sandbox]\nmax_log_size = 65536\n"})
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("capped")))
	c := pod.Run(harness.ContainerConfig("c", `i=0; while [ $i -lt 30 ]; do j=0; while [ $j -lt 200 ]; do echo $((i*200+j)); j=$((j+1)); done; i=$((i+1)); sleep 0.1; done`))
	s := c.Wait()
	want(t, "exit code", s.ExitCode, 0)
	old, err := os.ReadFile(s.LogPath + ".old")
	check(t, err)
	last, err := os.ReadFile(s.LogPath)
	check(t, err)
	if len(old) <= 65536 || len(old)+len(last) > 6000*50 {
		t.Errorf("%d bytes old, %d new", len(old), len(last))
	}
	before := -1
	for line := range strings.Lines(string(old) + string(last)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			t.Fatalf("line %q", line)
		}
		n, err := strconv.Atoi(f[3])
		check(t, err)
		if before >= 0 && n != before+1 {
			t.Fatalf("%d follows %d", n, before)
		}
		before = n
	}
	want(t, "last line", before, 5999)
}
