package blackbox

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// TestRootUsersErrorsInTheLog: a session that fails for what its user asked is told to them on one line, and the daemon's log, which keeps its
// format, doesn't call it an error.
func TestRootUsersErrorsInTheLog(t *testing.T) {
	d := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Flags: []string{"--log-format", "json"}})
	pod := d.RunPod(d.PodConfig("errors"))
	c := pod.Run(harness.ContainerConfig("main", harness.Sleep))
	for _, transport := range []string{"spdy", "websocket"} {
		_, errout, err := streamed(d, "", "exec", "--transport", transport, c.ID, "/no/such/program")
		if err == nil || !strings.Contains(errout, "/no/such/program") {
			t.Errorf("%s: %v, %q", transport, err, errout)
		}
	}

	attached := d.CrictlCommand("attach", "-i", c.ID)
	in, err := attached.StdinPipe()
	check(t, err)
	check(t, attached.Start())
	time.Sleep(300 * time.Millisecond) // attached, most likely: nothing says so
	check(t, attached.Process.Kill())
	_ = attached.Wait() // killed
	in.Close()

	conn, err := net.DialTimeout("tcp", forward(t, d, pod.ID, harness.FreePort(t)), 10*time.Second)
	check(t, err)
	defer conn.Close()
	d.Eventually("word of the closed port", func() bool { return strings.Contains(readLog(t, d), "error forwarding port") })
	for line := range strings.Lines(readLog(t, d)) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Errorf("not in the log's format: %q", line)
			continue
		}
		text, _ := event["error"].(string)
		if level := event["level"]; level == "error" || level == "warning" && event["op"] == "stream" {
			t.Errorf("level %v: %s", level, line)
		}
		if strings.Contains(text, "error forwarding") && (!strings.Contains(text, ", uid "+pod.Config.Metadata.Uid+": ") || strings.Contains(text, "\n")) {
			t.Errorf("told %q", text)
		}
	}
}

func readLog(t *testing.T, d *harness.Daemon) string {
	t.Helper()
	text, err := os.ReadFile(d.LogFile)
	check(t, err)
	return string(text)
}
