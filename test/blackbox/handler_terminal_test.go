package blackbox

import (
	"strings"
	"testing"
	"time"

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

		c := pod.Run(onTerminal("exec sh"))
		s := sit(t, d, "attach", "-it", c.ID)
		s.types("stty size; echo here\n")
		s.shows(`30 100\r\nhere`)
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
			want(t, handler+": exit code", code, 5)
		}
		for _, text := range []string{"here\r\n", "kept by the keeper\r\n", "kept by the daemon\r\n"} {
			if !strings.Contains(c.Output("stdout"), text) {
				t.Errorf("%s: %q is not in the log:\n%s", handler, text, c.Output("stdout"))
			}
		}
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
		d.Eventually(handler+": the size of the client's terminal", func() bool { // told once the command runs
			s.types("stty size | tr ' ' x\n")
			time.Sleep(100 * time.Millisecond)
			return strings.Contains(s.shown(), "30x100")
		})
		s.resize(90, 20)
		d.Eventually(handler+": the new size", func() bool {
			s.types("stty size | tr ' ' x\n")
			time.Sleep(100 * time.Millisecond)
			return strings.Contains(s.shown(), "20x90")
		})
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
