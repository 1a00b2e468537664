package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// stop stops a keeper as a debugger or an administrator may.
func stop(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil || len(tasks) == 0 {
		t.Fatal(err, len(tasks))
	}
	for _, task := range tasks { // each of its threads stops when it gets round to it
		for range 1000 {
			if text, err := os.ReadFile(task); err != nil || strings.Contains(string(text), ") T ") {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// A keeper that hangs is replaced; calls made meanwhile have an answer, and no line is lost.
func TestRootHungKeeper(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	b.cfg.Patience = 200 * time.Millisecond
	c := b.connect()
	drainExits(c)
	k := b.launch(c, "writer", shell(2, `i=0; while [ $i -lt 400 ]; do echo "line $i"; i=$((i+1)); sleep 0.005; done; exit 3`), nil)
	old := c.PID()
	stop(t, old)
	began := time.Now()
	held := make(chan error, 1)
	go func() { held <- c.Hold(b.ctx, "held", map[string]*os.File{"x": os.Stdin}) }()
	launched := make(chan error, 1)
	go func() { _, err := c.Launch(b.ctx, Launch{Key: "late", Program: shell(0, "exit 0")}); launched <- err }()
	if err := <-held; err != nil {
		t.Errorf("hold: %v", err)
	}
	if err := <-launched; err != nil && !errors.Is(err, ErrInterrupted) {
		t.Errorf("launch: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("calls took %s", took)
	}
	newKeeper(t, c, old)
	if e := b.wait(c, "writer"); !e.Known || e.Status.ExitStatus() != 3 {
		t.Errorf("exit %+v", e)
	}
	var want strings.Builder
	for i := range 400 {
		want.WriteString("line " + strconv.Itoa(i) + "\n")
	}
	compare(t, "stdout", raw(parseLog(t, k.log), "stdout"), want.String())
}

// A busy keeper that does answer is left alone.
func TestRootPingedKeeperStays(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	b.cfg.Patience = 400 * time.Millisecond
	c := b.connect()
	old := c.PID()
	stop(t, old)
	time.Sleep(b.cfg.Patience) // two misses at the most
	if err := unix.Kill(old, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * b.cfg.Patience)
	if c.PID() != old {
		t.Error("keeper was replaced")
	}
}

// A daemon that starts beside a keeper that hangs gets one of its own, also when nobody could connect to the old one
// any more.
func TestRootHungKeeperAtStart(t *testing.T) {
	needRoot(t)
	for name, waiting := range map[string]int{"at once": 0, "queue full": 20} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.cfg.Patience = 200 * time.Millisecond
			first := b.connect()
			old := first.PID()
			first.Close()
			stop(t, old)
			fill(t, b, waiting)
			began := time.Now()
			if second := b.connect(); second.PID() == old {
				t.Error("it is the same keeper")
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
			if err := unix.Kill(old, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("the old keeper is there: %v", err)
			}
		})
	}
}

// fill connects clients that nobody takes, as daemons that gave up have.
func fill(t *testing.T, b *bed, n int) {
	t.Helper()
	dir, err := os.Open(b.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for range n {
		conn, err := connect(dir, time.Millisecond)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	if n > 0 {
		t.Fatal("the queue takes everybody")
	}
}

// What the file says of another process, or of none, costs nobody his life.
func TestKillSilentKillsNobodyElse(t *testing.T) {
	self := os.Getpid()
	for name, text := range map[string]string{
		"another": strconv.Itoa(self) + " 1", "none": "4194304 1", "torn": "12", "empty": "", "words": "a b",
	} {
		cfg := Config{Dir: t.TempDir(), Log: logrus.New()}
		if err := os.WriteFile(filepath.Join(cfg.Dir, "pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := cfg.killSilent(t.Context()); err == nil {
			t.Errorf("%s: something was killed", name)
		}
	}
	cfg := Config{Dir: t.TempDir(), Log: logrus.New()}
	if err := cfg.killSilent(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}
