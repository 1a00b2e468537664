package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
	"golang.org/x/sys/unix"
)

func TestRootLaunchAndExit(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	begin := time.Now()
	for i, k := range []struct {
		script string
		status func(syscall.WaitStatus) bool
	}{
		{"exit 0", func(w syscall.WaitStatus) bool { return w.Exited() && w.ExitStatus() == 0 }},
		{"exit 42", func(w syscall.WaitStatus) bool { return w.Exited() && w.ExitStatus() == 42 }},
		{"kill -9 $$", func(w syscall.WaitStatus) bool { return w.Signaled() && w.Signal() == syscall.SIGKILL }},
	} {
		key := fmt.Sprint("c", i)
		b.launch(c, key, shell(2, "echo out; echo err >&2; "+k.script), nil)
		exit := <-c.Exits()
		if exit.Key != key || !exit.Known || !k.status(exit.Status) || exit.At.Before(begin) || exit.At.After(time.Now()) {
			t.Errorf("%s: exit %+v", k.script, exit)
		}
		if again := b.wait(c, key); again != exit {
			t.Errorf("%s: wait says %+v", k.script, again)
		}
		// The streams were drained before the exit was told.
		log := parseLog(t, filepath.Join(b.cfg.StateDir, key+".log"))
		if raw(log, "stdout") != "out\n" || raw(log, "stderr") != "err\n" {
			t.Errorf("%s: log %v", k.script, log)
		}
		if err := c.Forget(b.ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Shutdown(b.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(b.cfg.Dir, "keeper.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after shutdown: %v", err)
	}
}

func TestRootLaunchErrors(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	oneshots(t, b, c, 8, 10) // the keeper has its zygotes from now on
	before := countFiles(t, c.PID())

	_, err := c.Launch(b.ctx, Launch{Key: "missing", Program: execute(0, "/no/such/file")})
	var step *launch.StepError
	if !errors.As(err, &step) || step.Step != 0 || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("missing executable: %v", err)
	}
	for name, l := range map[string]Launch{
		"empty key":    {Program: shell(0, "exit")},
		"long key":     {Key: strings.Repeat("k", 256), Program: shell(0, "exit")},
		"few slots":    {Key: "k", Program: shell(2, "exit")},
		"long lines":   {Key: "k", Program: shell(0, "exit"), MaxLine: 2 << 20},
		"many streams": {Key: "k", Program: shell(0, "exit"), Streams: make([]Stream, 0)},
	} {
		if name == "many streams" {
			for range 9 {
				l.Streams = append(l.Streams, Stream{Name: "stdout", File: os.Stdin})
			}
		}
		if _, err := c.Launch(b.ctx, l); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	k := b.launch(c, "k", shell(2, "sleep 60"), nil)
	if _, err := c.Launch(b.ctx, Launch{Key: "k", Program: shell(0, "exit")}); !errors.Is(err, ErrKeyInUse) {
		t.Errorf("key in use: %v", err)
	}
	kill(t, int(k.proc.PidFD.Fd()))
	b.wait(c, "k")
	if _, err := c.Launch(b.ctx, Launch{Key: "k", Program: shell(0, "exit")}); !errors.Is(err, ErrKeyInUse) {
		t.Errorf("key of an exit: %v", err)
	}
	for range 2 {
		if err := c.Forget(b.ctx, "k"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Wait(b.ctx, "k"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("wait for a forgotten key: %v", err)
	}
	if after := settledFiles(t, c.PID(), before); after > before { // fewer: some of the launches before it had not let go of all
		t.Errorf("keeper: %d descriptors before, %d after", before, after)
	}
}

// settledFiles counts descriptors, giving those on their way out a moment.
func settledFiles(t *testing.T, pid, want int) int {
	t.Helper()
	n := 0
	for range 100 {
		if n = countFiles(t, pid); n <= want {
			return n
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, e := range func() []os.DirEntry { l, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); return l }() {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name()))
		t.Logf("%s → %s", e.Name(), to)
	}
	return n
}

func TestRootStreamsAndPartialLines(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	b.launch(c, "k", shell(2, `printf 'one\n\ntwo\n'; printf '%s\n' 0123456789abcdef; printf 'end without newline'; printf 'e' >&2`),
		func(l *Launch) { l.MaxLine = 10 })
	b.wait(c, "k")
	var out []string
	for _, e := range parseLog(t, filepath.Join(b.cfg.StateDir, "k.log")) {
		if e.stream == "stdout" {
			out = append(out, e.tag+" "+e.text)
		} else if e != (entry{"stderr", "P", "e"}) {
			t.Errorf("stderr has %v", e)
		}
	}
	want := []string{"F one", "F ", "F two", "P 0123456789", "F abcdef", "P end withou", "P t newline"}
	if fmt.Sprint(out) != fmt.Sprint(want) {
		t.Errorf("log has %q, want %q", out, want)
	}
}

// A process that the container left behind holds the streams open: the exit is told nevertheless, an
// unfinished line is in the log by then, and what comes later too.
func TestRootExitWithStreamsHeldOpen(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	begin := time.Now()
	b.launch(c, "k", shell(2, `printf unfinished; (sleep 1.5; echo late) & exit 3`), nil)
	exit := b.wait(c, "k")
	if took := time.Since(begin); exit.Status.ExitStatus() != 3 || took < 500*time.Millisecond || took > 1400*time.Millisecond {
		t.Errorf("exit %d after %v", exit.Status.ExitStatus(), took)
	}
	log := filepath.Join(b.cfg.StateDir, "k.log")
	if got := raw(parseLog(t, log), "stdout"); got != "unfinished" {
		t.Errorf("log has %q at the exit", got)
	}
	time.Sleep(time.Until(begin.Add(1800 * time.Millisecond)))
	if got := raw(parseLog(t, log), "stdout"); got != "unfinishedlate\n" {
		t.Errorf("log has %q at last", got)
	}
}

func TestRootOneshotsAndEarlyExits(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	oneshots(t, b, c, 8, 10) // the keeper has its zygotes from now on
	before := countFiles(t, c.PID())
	mine := countFiles(t, os.Getpid())
	oneshots(t, b, c, 8, 150)
	if after := settledFiles(t, c.PID(), before); after > before { // fewer: some of the launches before it had not let go of all
		t.Errorf("keeper: %d descriptors before, %d after", before, after)
	}
	if after := settledFiles(t, os.Getpid(), mine); after != mine {
		t.Errorf("client: %d descriptors before, %d after", mine, after)
	}
	if err := c.Shutdown(b.ctx); err != nil {
		t.Errorf("oneshots are kept: %v", err)
	}
}

// oneshots runs workers side by side, each one launch after the other, whose exit codes must be right.
func oneshots(t *testing.T, b *bed, c *Client, workers, each int) {
	t.Helper()
	errs := make(chan error, workers)
	for w := range workers {
		go func() {
			for i := range each {
				key := fmt.Sprintf("exec-%d-%d", w, i)
				p, err := c.Launch(b.ctx, Launch{Key: key, Program: shell(0, fmt.Sprint("exit ", i%200)), Oneshot: true})
				if err != nil {
					errs <- err
					return
				}
				p.PidFD.Close()
				e, err := c.Wait(b.ctx, key)
				if err != nil || !e.Known || e.Status.ExitStatus() != i%200 {
					errs <- fmt.Errorf("%s: %+v, %v", key, e, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// An exec's process is made by the child with CLONE_PARENT; it may end before its pid is known.
func TestRootCloneParent(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	for i := range 200 {
		p := &builder{}
		p.p.Clone.Cgroup = 0
		args := make([]uint64, 11) // struct clone_args
		args[0], args[4] = unix.CLONE_PARENT, 0
		for len(p.p.Data)%8 != 0 {
			p.p.Data = append(p.p.Data, 0)
		}
		ca := imm(0)
		ca.Kind, ca.Value = 1, uint64(len(p.p.Data)) // ArgData
		for _, a := range args {
			p.p.Data = append(p.p.Data, byte(a), byte(a>>8), byte(a>>16), byte(a>>24), 0, 0, 0, 0)
		}
		p.p.Clone.Cgroup = -1
		p.step(unix.SYS_CLONE3, ca, imm(88))
		p.p.Steps[0].Result = 1
		adopt := imm(1)
		adopt.Kind = 3 // ArgReg
		p.step(1<<31, adopt)
		p.step(unix.SYS_EXECVE, p.str("/bin/sh"), p.vec("sh", "-c", fmt.Sprint("exit ", i%100)), p.vec())
		key := fmt.Sprint("exec", i)
		proc, err := c.Launch(b.ctx, Launch{Key: key, Program: &p.p, Oneshot: true})
		if err != nil {
			t.Fatal(err)
		}
		proc.PidFD.Close()
		if e := b.wait(c, key); !e.Known || !e.Status.Exited() || e.Status.ExitStatus() != i%100 {
			t.Fatalf("exec %d: %+v", i, e)
		}
	}
}

// A child that hangs in a step stops nothing else, and is gone once its launch is given up.
func TestRootHungLaunch(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	p := &builder{}
	p.p.Clone.Cgroup = -1
	p.step(unix.SYS_PPOLL, imm(0), imm(0), imm(0), imm(0)) // for ever
	ctx, cancel := context.WithCancel(b.ctx)
	hung := make(chan error, 1)
	go func() {
		_, err := c.Launch(ctx, Launch{Key: "hung", Program: &p.p})
		hung <- err
	}()
	time.Sleep(50 * time.Millisecond)
	for i := range 20 {
		key := fmt.Sprint("quick", i)
		b.launch(c, key, shell(2, "exit 1"), nil)
		if e := b.wait(c, key); e.Status.ExitStatus() != 1 {
			t.Errorf("exit %+v", e)
		}
	}
	select {
	case err := <-hung:
		t.Fatalf("hung launch returned: %v", err)
	default:
	}
	cancel()
	if err := <-hung; !errors.Is(err, context.Canceled) {
		t.Errorf("hung launch: %v", err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		p, err := c.Launch(b.ctx, Launch{Key: "hung", Program: shell(0, "exit 0"), Oneshot: true})
		if err == nil {
			p.PidFD.Close()
			break
		}
		if !errors.Is(err, ErrKeyInUse) || time.Now().After(deadline) {
			t.Fatalf("key of an aborted launch: %v", err)
		}
	}
}

func TestRootHoldAndReconnect(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	pid := c.PID()
	f := b.openLog(filepath.Join(b.cfg.StateDir, "held"))
	defer f.Close()
	many := make(map[string]*os.File)
	for i := range 300 {
		many[fmt.Sprint("f", i)] = f
	}
	if err := c.Hold(b.ctx, "pod", many); err != nil {
		t.Fatal(err)
	}
	if err := c.Hold(b.ctx, "pod", map[string]*os.File{"f0": os.Stderr, "more": f}); err != nil {
		t.Fatal(err)
	}
	run := b.launch(c, "run", shell(2, "echo before; sleep 0.3; echo after; sleep 60"), nil)
	b.launch(c, "ended", shell(2, "exit 9"), nil)
	<-c.Exits()
	if err := c.Shutdown(b.ctx); !errors.Is(err, ErrKept) {
		t.Errorf("shutdown of a keeper that keeps: %v", err)
	}
	if _, err := Connect(b.ctx, b.cfg); !errors.Is(err, ErrBusy) {
		t.Errorf("a second client: %v", err)
	}
	c.Close()

	c = b.connect()
	if c.PID() != pid {
		t.Fatalf("keeper %d, was %d", c.PID(), pid)
	}
	kept := make(map[string]Kept)
	for _, k := range c.Kept() {
		kept[k.Key] = k
		defer func() {
			if k.PidFD != nil {
				k.PidFD.Close()
			}
			for _, f := range k.Files {
				f.Close()
			}
		}()
	}
	if len(kept) != 3 || len(kept["pod"].Files) != 301 || kept["pod"].PidFD != nil || kept["pod"].PID != 0 {
		t.Errorf("kept %d keys, %d files of the pod", len(kept), len(kept["pod"].Files))
	}
	if k := kept["run"]; k.PID != run.proc.PID || k.Exit != nil || k.PidFD == nil {
		t.Errorf("running: %+v", k)
	}
	if k := kept["ended"]; k.Exit == nil || k.Exit.Status.ExitStatus() != 9 || !k.Exit.Known {
		t.Errorf("ended: %+v", k)
	}
	if e := <-c.Exits(); e.Key != "ended" || e.Status.ExitStatus() != 9 {
		t.Errorf("exit after reconnecting: %+v", e)
	}
	a, _ := os.Stat(f.Name())
	st, err := kept["pod"].Files["more"].Stat()
	if err != nil || !os.SameFile(a, st) {
		t.Errorf("held file is another: %v", err)
	}
	time.Sleep(400 * time.Millisecond)
	if got := raw(parseLog(t, run.log), "stdout"); got != "before\nafter\n" {
		t.Errorf("log has %q", got)
	}
	for _, key := range []string{"pod", "run", "ended"} {
		if err := c.Forget(b.ctx, key); err != nil {
			t.Error(err)
		}
	}
	if err := c.Shutdown(b.ctx); err != nil {
		t.Error(err)
	}
}

func TestRootPause(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	bin := filepath.Join(t.TempDir(), "berth-keeper")
	build(t, bin)
	k := b.launch(c, "pause", execute(2, bin, "pause"), nil)
	time.Sleep(100 * time.Millisecond)
	if err := unix.PidfdSendSignal(int(k.proc.PidFD.Fd()), unix.SIGTERM, nil, 0); err != nil {
		t.Fatal(err)
	}
	if e := b.wait(c, "pause"); !e.Status.Exited() || e.Status.ExitStatus() != 0 {
		t.Errorf("exit %+v", e)
	}
}
