package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/test/harness"
)

func TestRootLogLines(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("log")))
	c := pod.Run(harness.ContainerConfig("main", `
i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done
head -c 40000 /dev/zero | tr '\0' y; echo
echo >&2 "to stderr"
printf '\n'
printf 'no end'`))
	c.Wait()
	log := c.Log()
	var lines []string
	var long, stderr string
	parts := 0
	for i, l := range log {
		if l.Stream == "stderr" {
			stderr += l.Text
			continue
		}
		if i > 0 && l.Time.Before(log[0].Time) {
			t.Errorf("line %d is of %v, before the first", i, l.Time)
		}
		if strings.HasPrefix(l.Text, "yy") {
			long += l.Text
			parts++
			if len(l.Text) > 16<<10 {
				t.Errorf("a part of %d bytes", len(l.Text))
			}
			continue
		}
		lines = append(lines, l.Text)
	}
	for i := range 3000 {
		if i >= len(lines) || lines[i] != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d is missing or out of order", i)
		}
	}
	want(t, "the long line's length", len(long), 40000)
	want(t, "its parts", parts, 3)
	want(t, "standard error", stderr, "to stderr")
	want(t, "what follows", strings.Join(lines[3000:], "|"), "|no end")
	want(t, "whether the last piece is a full line", log[len(log)-1].Full && log[len(log)-1].Stream == "stdout", false)
}

// TestRootFloodSlowsOnlyItself has one container write as fast as it can.
func TestRootFloodSlowsOnlyItself(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("flood")))
	flood := pod.Run(harness.ContainerConfig("flood", "yes floooooooooooooooooood"))
	c := pod.Run(harness.ContainerConfig("quiet", "i=0; while [ $i -lt 50 ]; do echo $i; i=$((i+1)); done"))
	c.Wait()
	want(t, "lines of the quiet one", len(c.Log()), 50)
	flood.Stop(0)
	if len(flood.Log()) < 1000 {
		t.Errorf("only %d lines of the flood", len(flood.Log()))
	}
}

func TestRootLogPathStaysInItsDirectory(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("paths")))
	config := harness.ContainerConfig("sub", "echo below")
	config.LogPath = "sub/0.log"
	c := pod.Run(config)
	c.Wait()
	want(t, "log in a directory", c.Output("stdout"), "below\n")
	info, err := os.Stat(filepath.Join(pod.Config.LogDirectory, "sub", "0.log"))
	check(t, err)
	if info.Mode().Perm()&0o007 != 0 && info.Mode().Perm()&0o002 != 0 {
		t.Errorf("the log can be written by anybody: %v", info.Mode())
	}
	none := harness.ContainerConfig("none", "echo into nothing; exit 4")
	none.LogPath = ""
	want(t, "exit code without a log", pod.Run(none).Wait().ExitCode, 4)
}
