package blackbox

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

func TestRootAttachTerminal(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("attach")))
	outlives(t, d, "attach", pod.Run(onTerminal("exec sh")))
}

// outlives looks at a shell on a terminal, and types into it, also when keeper and daemon have been killed: it stays, with
// what it was told. It ends with code 5.
func outlives(t *testing.T, d *harness.Daemon, name string, c *harness.Container) {
	t.Helper()
	s := sit(t, d, "attach", "-it", c.ID)
	s.isOf("30x100")
	s.types("echo here\n")
	s.shows(`here\r\n`)
	s.types("x=kept\n")
	d.KillKeeper()
	s.types("echo $x by the keeper\n")
	s.shows(`kept by the keeper`)
	d.Kill()
	d.Restart()
	s.exits() // the session was the daemon's
	s = sit(t, d, "attach", "-it", c.ID)
	s.types("echo $x by the daemon; exit 5\n")
	s.shows(`kept by the daemon`)
	s.exits()
	if code := c.Wait().ExitCode; harness.ExitsOutliveKeepers() {
		want(t, name+": exit code", code, 5)
	}
	for _, text := range []string{"here\r\n", "kept by the keeper\r\n", "kept by the daemon\r\n"} {
		if !strings.Contains(c.Output("stdout"), text) {
			t.Errorf("%s: %q is not in the log:\n%s", name, text, c.Output("stdout"))
		}
	}
}

func TestRootAttachStdinOnce(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("once")))
	config := harness.ContainerConfig("main", "cat; echo over >&2; exit 6")
	config.Stdin, config.StdinOnce = true, true
	c := pod.Run(config)
	var input strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&input, "line %d\n", i)
	}
	out, errout, err := streamed(d, input.String(), "attach", "-i", c.ID)
	if err != nil || out != input.String() || !strings.Contains(errout, "over\n") {
		t.Errorf("%d bytes of %d came back, and %q, %v", len(out), input.Len(), errout, err)
	}
	want(t, "exit code", c.Wait().ExitCode, 6)
	if c.Output("stdout") != input.String() {
		t.Error("the log is not what was written")
	}
	// Nothing to read: /dev/null.
	none := pod.Run(harness.ContainerConfig("none", "readlink /proc/self/fd/0; cat; exit 3"))
	want(t, "exit code without stdin", none.Wait().ExitCode, 3)
	want(t, "standard input without stdin", none.Output("stdout"), "/dev/null\n")
}

// TestRootAttachHearsTheAnswer: a client whose input ends, as of a pipe, leaves a process that goes on, but not before it has seen what its
// last words brought.
func TestRootAttachHearsTheAnswer(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("answers")))
	config := harness.ContainerConfig("main", "while read x; do sleep 0.05; echo got $x; done; exit 6")
	config.Stdin = true
	c := pod.Run(config)
	for _, transport := range []string{"spdy", "websocket"} {
		for _, text := range []string{"first", "second"} {
			out, _, err := streamed(d, text+"\n", "attach", "--transport", transport, "-i", c.ID)
			check(t, err)
			want(t, "answer over "+transport, out, "got "+text+"\n")
		}
	}
	want(t, "state", c.Status().State, cri.ContainerState_CONTAINER_RUNNING)
	// It does not stay for ever with a process that does not stop to speak.
	config = harness.ContainerConfig("speaks", "while :; do echo on and on; sleep 0.01; done")
	config.Stdin = true
	speaker := pod.Run(config)
	ended := make(chan error, 1)
	go func() {
		_, _, err := streamed(d, "x", "attach", "-i", speaker.ID)
		ended <- err
	}()
	select {
	case err := <-ended:
		check(t, err)
	case <-time.After(30 * time.Second):
		t.Error("the client is kept")
	}
}

// TestRootAttachDisturbsNothing has onlookers come and go, one of which does not
// read, while lines are written: the log has them all.
func TestRootAttachDisturbsNothing(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("onlookers")))
	const lines = 400_000
	c := pod.Run(harness.ContainerConfig("main", fmt.Sprintf(
		`while [ ! -e /go ]; do sleep 0.05; done; awk 'BEGIN { for (i = 0; i < %d; i++) print "line " i " of one that is looked at while it writes" }'; exit 4`, lines)))
	stuck := d.CrictlCommand("attach", c.ID)
	pipe, err := stuck.StdoutPipe()
	check(t, err)
	check(t, stuck.Start())
	seen := make(chan string, 1)
	go func() {
		out, _, _ := streamed(d, "", "attach", c.ID)
		seen <- out
	}()
	time.Sleep(500 * time.Millisecond)
	c.Exec("touch /go")
	want(t, "exit code", c.Wait().ExitCode, 4)
	log := c.Log()
	want(t, "lines in the log", len(log), lines)
	for i, l := range log {
		if l.Text != fmt.Sprintf("line %d of one that is looked at while it writes", i) {
			t.Fatalf("line %d of the log is %q", i, l.Text)
		}
	}
	check(t, stuck.Process.Kill())
	pipe.Close()
	_ = stuck.Wait()
	select {
	case out := <-seen:
		// It may have been too slow, but what it saw is what was written.
		if !strings.HasPrefix(out, "line 0 of one") {
			t.Errorf("the other one saw %d bytes", len(out))
		}
	case <-time.After(30 * time.Second):
		t.Error("the other one does not end with the container")
	}
}

func TestRootReopenContainerLog(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("rotate")))
	c := pod.Run(harness.ContainerConfig("main", `trap 'echo "end $i"; exit 0' TERM; i=0; while :; do echo "line $i"; i=$((i+1)); done`))
	path := c.Status().LogPath
	var files []string
	for round := range 10 {
		time.Sleep(50 * time.Millisecond)
		old := fmt.Sprintf("%s.%d", path, round)
		check(t, os.Rename(path, old))
		files = append(files, old)
		if round == 5 { // with nobody to do it, it is an error or comes late, and never loses a line
			d.KillKeeper()
		}
		_, err := d.Runtime.ReopenContainerLog(d.Context(), &cri.ReopenContainerLogRequest{ContainerId: c.ID})
		check(t, err)
	}
	c.Stop(20)
	files = append(files, path)
	next, end := 0, -1
	for _, file := range files {
		for _, l := range harness.ReadLog(t, file) {
			var n int
			if _, err := fmt.Sscanf(l.Text, "end %d", &n); err == nil {
				end = n
				continue
			}
			if l.Text != fmt.Sprintf("line %d", next) || !l.Full {
				t.Fatalf("%s: %q, wanted line %d", file, l.Text, next)
			}
			next++
		}
	}
	if end != next && end != next-1 || next < 1000 {
		t.Errorf("%d lines in the logs, and %d were written", next, end)
	}
	_, err := d.Runtime.ReopenContainerLog(d.Context(), &cri.ReopenContainerLogRequest{ContainerId: c.ID})
	if err == nil {
		t.Error("the log of a container that has ended was reopened")
	}
}
