package blackbox

import (
	"strings"
	"testing"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/runtimes"
)

// A container of another runtime has its terminal: to be looked at and typed into, of the client's size, and kept
// when daemon and keeper are killed.
func TestRootHandlerTerminal(t *testing.T) {
	d := withRuntimes(t)
	for _, handler := range runtimes.Names {
		pod := d.RunPodBy(handler, harness.OnHostNetwork(d.PodConfig(handler)))
		said := pod.Run(onTerminal(`test -t 0 && test -t 1 && test -t 2 && echo terminal; echo to console >/dev/console; echo to tty >/dev/tty; exit 3`))
		want(t, handler+": exit code", said.Wait().ExitCode, 3)
		want(t, handler+": output", said.Output("stdout"), "terminal\r\nto console\r\nto tty\r\n")
		said.Remove()

		outlives(t, d, handler, pod.Run(onTerminal("exec sh")))
		pod.Remove()
	}
}

// An exec on a terminal has the client's size, also when that changes, its signals, and its exit code; it ends when the
// client goes.
func TestRootHandlerExecTerminal(t *testing.T) {
	d := withRuntimes(t)
	for _, handler := range runtimes.Names {
		pod := d.RunPodBy(handler, harness.OnHostNetwork(d.PodConfig(handler)))
		c := pod.Run(harness.ContainerConfig("main", harness.Sleep))
		s := sit(t, d, "exec", "-it", c.ID, "sh")
		s.types("test -t 0 && test -t 1 && echo on a terminal; stty size\n")
		s.shows(`on a terminal\r\n`)
		s.isOf("30x100")
		s.resize(90, 20)
		s.isOf("20x90")
		s.types("sleep 472\n")
		d.Eventually(handler+": a command to run", func() bool { return strings.Contains(c.Exec("ps"), "sleep 472") })
		s.types("\x03")
		s.types("echo interrupted; exit 7\n")
		s.shows(`interrupted\r\n`)
		if code := s.exits(); code == 0 {
			t.Errorf("%s: crictl's exit code is 0 of a shell that exited with 7", handler)
		}
		s = sit(t, d, "exec", "-it", c.ID, "sh", "-c", "echo ready; exec sleep 473")
		s.shows(`ready`)
		check(t, s.cmd.Process.Kill())
		d.Eventually(handler+": the command of a client that is gone to end", func() bool { return !strings.Contains(c.Exec("ps"), "sleep 473") })
		pod.Remove()
	}
}
