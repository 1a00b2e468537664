package sandbox

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// attached is a client that is attached to a container.
type attached struct {
	d     *daemon
	typed *io.PipeWriter
	out   *paper
	done  chan error
}

// attach attaches a client, and returns when it sees what the container writes.
func (d *daemon) attach(id string, s Streams) *attached {
	d.t.Helper()
	a := &attached{d: d, out: &paper{}, done: make(chan error, 1)}
	if s.Stdout == nil {
		s.Stdout = a.out
	}
	in, typed := io.Pipe()
	a.typed = typed
	d.t.Cleanup(func() { typed.Close() })
	if s.Stdin == nil {
		s.Stdin = in
	}
	go func() { a.done <- d.m.Attach(d.t.Context(), id, s) }()
	d.eventually("the client is attached", func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		k := d.kept[id]
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.taps) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	return a
}

func (a *attached) types(text string) {
	a.d.t.Helper()
	if _, err := io.WriteString(a.typed, text); err != nil {
		a.d.t.Fatal(err)
	}
}

func (a *attached) shows(want string) {
	a.d.t.Helper()
	a.d.eventually(fmt.Sprintf("the client sees %q", want), func() error {
		if got := a.out.String(); !strings.Contains(got, want) {
			return fmt.Errorf("it sees %q", got)
		}
		return nil
	})
}

// ends waits for the session's end.
func (a *attached) ends() error {
	a.d.t.Helper()
	select {
	case err := <-a.done:
		return err
	case <-time.After(20 * time.Second):
		a.d.t.Fatal("the session does not end")
		return nil
	}
}

// interactive is a daemon with a container that can be typed to.
func interactive(t *testing.T, config func(*spec.Container), script string) (*daemon, string) {
	t.Helper()
	w := newWorld(t)
	w.command = []string{"sh", "-c", script}
	d := w.start()
	c := containerConfig("c")
	c.Stdin = true
	config(c)
	id := d.create(d.runPod(podConfig("web")), c)
	d.begin(id)
	return d, id
}

const parrot = `while read line; do echo "<$line>"; done; echo over; exec sleep 1000`

func TestAttach(t *testing.T) {
	d, id := interactive(t, func(*spec.Container) {}, parrot)
	first := d.attach(id, Streams{})
	first.types("one\n")
	first.shows("<one>\n")
	// A second client sees what comes from now on, and the first one sees it too.
	second := d.attach(id, Streams{})
	second.types("two\n")
	second.shows("<two>\n")
	first.shows("<two>\n")
	if strings.Contains(second.out.String(), "one") {
		t.Errorf("the second client sees the past: %q", second.out.String())
	}
	// Without stdin_once a client that leaves is no end of the input.
	second.typed.Close()
	if err := second.ends(); err != nil {
		t.Error(err)
	}
	first.types("three\n")
	first.shows("<three>\n")
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if err := first.ends(); err != nil {
		t.Error(err)
	}
	if err := d.m.Attach(t.Context(), id, Streams{Stdout: &paper{}}); !errors.Is(err, ErrState) {
		t.Errorf("after the end: %v", err)
	}
	d.settled()
}

func TestAttachStdinOnce(t *testing.T) {
	d, id := interactive(t, func(c *spec.Container) { c.StdinOnce = true }, parrot)
	a := d.attach(id, Streams{})
	a.types("only\n")
	a.shows("<only>\n")
	a.typed.Close()
	a.shows("over\n") // the input has ended, and the session goes on
	d.output(id, "over\n")
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if err := a.ends(); err != nil {
		t.Error(err)
	}
}

func TestAttachTerminal(t *testing.T) {
	d, id := interactive(t, func(c *spec.Container) { c.TTY = true },
		"stty -echo; echo ready; read line; echo got $line; until stty size | grep -v '^0 0$'; do sleep 0.01; done; exec sleep 1000")
	d.output(id, "ready")
	sizes := make(chan TerminalSize, 1)
	a := d.attach(id, Streams{TTY: true, Resize: sizes})
	sizes <- TerminalSize{Width: 90, Height: 20}
	a.types("typed\n")
	a.shows("got typed\r\n20 90\r\n")
	close(sizes) // the client is gone
	if err := a.ends(); err != nil {
		t.Error(err)
	}
	if info, err := d.m.Container(id); err != nil || info.State != ContainerRunning {
		t.Errorf("the container: %+v, %v", info, err)
	}
}

// TestAttachGoesOn has the taps cut, as when the keeper dies: nothing is missing.
func TestAttachGoesOn(t *testing.T) {
	d, id := interactive(t, func(*spec.Container) {}, parrot)
	a := d.attach(id, Streams{})
	for i := range 20 {
		a.types(fmt.Sprintf("line %d\n", i))
		d.mu.Lock()
		k := d.kept[id]
		d.mu.Unlock()
		k.cut()
	}
	a.shows("<line 19>\n")
	next := 0
	for line := range strings.Lines(a.out.String()) {
		if line != fmt.Sprintf("<line %d>\n", next) {
			t.Fatalf("line %d is %q", next, line)
		}
		next++
	}
}

// TestAttachTooSlow has the keeper begin further on than the client had come.
func TestAttachTooSlow(t *testing.T) {
	for _, tty := range []bool{false, true} {
		d, id := interactive(t, func(c *spec.Container) { c.TTY = tty }, "exec sleep 1000")
		c := d.m.index.exactly(id)
		v := &view{a: &onlooker{sessions: d.m.sessions, c: c, ctx: t.Context()}, name: "stdout", to: &paper{}}
		err := v.gap(7)
		shown := v.to.(*paper).String()
		if tty && (err != nil || !strings.Contains(shown, "7 bytes skipped")) {
			t.Errorf("terminal: %q, %v", shown, err)
		}
		if !tty && (!errors.Is(err, ErrBehind) || shown != "") {
			t.Errorf("pipe: %q, %v", shown, err)
		}
	}
}

// TestAttachClientTakesNoMore has the client's connection break.
func TestAttachClientTakesNoMore(t *testing.T) {
	d, id := interactive(t, func(*spec.Container) {}, parrot)
	a := d.attach(id, Streams{Stdout: brokenClient{}})
	a.types("something\n")
	if err := a.ends(); err != nil {
		t.Error(err)
	}
	d.output(id, "<something>")
}

// TestSessionsEndWithTheDaemon has sessions under way when it closes: those of execs
// are killed, and attached clients are told.
func TestSessionsEndWithTheDaemon(t *testing.T) {
	d, id := interactive(t, func(*spec.Container) {}, parrot)
	a := d.attach(id, Streams{})
	execed := make(chan error, 1)
	var out paper
	go func() {
		_, err := d.m.Exec(t.Context(), id, []string{"sh", "-c", "echo begun; sleep 1000"}, Streams{Stdout: &out})
		execed <- err
	}()
	d.eventually("the command has begun", func() error {
		if !strings.Contains(out.String(), "begun") {
			return errors.New("it has not")
		}
		return nil
	})
	if err := d.m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.ends(); !errors.Is(err, ErrClosed) {
		t.Errorf("attached: %v", err)
	}
	select {
	case err := <-execed:
		if !errors.Is(err, ErrClosed) {
			t.Errorf("exec: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the exec does not end")
	}
}

// TestAttachToTheNextDaemon speaks to a process that an earlier daemon started.
func TestAttachToTheNextDaemon(t *testing.T) {
	d, id := interactive(t, func(*spec.Container) {}, parrot)
	d.kill()
	next := d.world.start()
	a := next.attach(id, Streams{})
	a.types("across\n")
	a.shows("<across>\n")
	if err := next.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if err := a.ends(); err != nil {
		t.Error(err)
	}
	next.settled()
}

// TestAttachWithoutInput has nothing to feed: what the client types goes nowhere.
func TestAttachWithoutInput(t *testing.T) {
	d, id := interactive(t, func(c *spec.Container) { c.Stdin = false }, "echo begin; cat; exec sleep 1000")
	d.output(id, "begin")
	a := d.attach(id, Streams{})
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if err := a.ends(); err != nil || a.out.String() != "" {
		t.Errorf("saw %q, %v", a.out.String(), err)
	}
}

// TestAttachOnlyTypes attaches without an output.
func TestAttachOnlyTypes(t *testing.T) {
	d, id := interactive(t, func(*spec.Container) {}, parrot)
	if err := d.m.Attach(t.Context(), id, Streams{Stdin: strings.NewReader("blind\n")}); err != nil {
		t.Error(err)
	}
	d.output(id, "<blind>")
	if err := d.m.Attach(t.Context(), "nothing", Streams{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no container: %v", err)
	}
}

// TestAttachWhenStreamsAreGone finds no stream to look at: the process has closed
// it. That is no error.
func TestAttachWhenStreamsAreGone(t *testing.T) {
	d, id := interactive(t, func(*spec.Container) {}, "exec sleep 1000")
	d.fail("attach", fmt.Errorf("attach: %w", keeper.ErrUnknownKey))
	done := make(chan error, 1)
	go func() { done <- d.m.Attach(t.Context(), id, Streams{Stdout: &paper{}}) }()
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil && !errors.Is(err, ErrState) {
		t.Error(err)
	}
	d, id = interactive(t, func(*spec.Container) {}, "exec sleep 1000")
	refused := errors.New("refused")
	d.fail("attach", refused)
	if err := d.m.Attach(t.Context(), id, Streams{Stdout: &paper{}, Stderr: &paper{}}); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}
