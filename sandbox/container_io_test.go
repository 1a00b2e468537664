package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// output waits until a container has written something.
func (d *daemon) output(id, want string) {
	d.t.Helper()
	d.eventually("container writes "+want, func() error {
		d.mu.Lock()
		k := d.kept[id]
		d.mu.Unlock()
		if k == nil || !strings.Contains(k.written(), want) {
			return fmt.Errorf("it has not")
		}
		return nil
	})
}

func TestContainerWithTerminal(t *testing.T) {
	w := newWorld(t)
	w.command = []string{"sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo all three; read line; echo got $line; exec sleep 1000"}
	d := w.start()
	config := containerConfig("c")
	config.TTY, config.Stdin = true, true
	id := d.create(d.runPod(podConfig("web")), config)
	d.begin(id)
	d.output(id, "all three")
	c := d.m.index.exactly(id)
	if _, err := c.input.WriteString("typed\n"); err != nil {
		t.Fatal(err)
	}
	d.output(id, "got typed")
	d.kill()

	d = w.start() // the next daemon has what feeds the process from the keeper
	if c = d.m.index.exactly(id); c == nil || c.input == nil {
		t.Fatal("the next daemon has no terminal")
	}
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	d.awaitState(id, ContainerExited)
	if c.input != nil {
		t.Error("the terminal is open after the container's end")
	}
	d.settled()
}

func TestContainerInput(t *testing.T) {
	for _, c := range []struct {
		stdin bool
		want  string
	}{{false, "/dev/null"}, {true, "pipe:"}} {
		w := newWorld(t)
		w.command = []string{"sh", "-c", "readlink /proc/self/fd/0; exec sleep 1000"}
		d := w.start()
		config := containerConfig("c")
		config.Stdin = c.stdin
		id := d.create(d.runPod(podConfig("web")), config)
		d.begin(id)
		d.output(id, c.want)
	}
}

// TestStartFailsAtTheTerminal holds that nothing stays open of one that could not
// be started.
func TestStartFailsAtTheTerminal(t *testing.T) {
	for _, op := range []string{"make terminal", "launch container"} {
		d := newWorld(t).start()
		config := containerConfig("c")
		config.TTY = true
		id := d.create(d.runPod(podConfig("web")), config)
		refused := errors.New("refused")
		d.fail(op, refused)
		before := terminals(t)
		if err := d.m.StartContainer(t.Context(), id); !errors.Is(err, refused) {
			t.Errorf("%s: got %v", op, err)
		}
		if info := d.awaitState(id, ContainerExited); info.ExitCode != startErrorCode || info.Reason != ReasonStartError {
			t.Errorf("%s: exit code %d, reason %s", op, info.ExitCode, info.Reason)
		}
		if after := terminals(t); after > before { // what earlier tests left may be closed meanwhile
			t.Errorf("%s: %d terminals open, %d before", op, after, before)
		}
		d.settled()
	}
}

// terminals counts the masters that this process has open.
func terminals(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasSuffix(to, "ptmx") {
			n++
		}
	}
	return n
}
