package keeper

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRootKillKeeperInAFlood kills the keeper again and again while a container writes numbered lines on
// both streams, and compares the log byte for byte.
func TestRootKillKeeperInAFlood(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	kills, lines := 40, 600_000
	if testing.Short() {
		kills = 8
	}
	// awk writes in blocks that end within lines; the second stream flows now and then.
	script := fmt.Sprintf(`awk 'BEGIN { for (i = 0; i < %d; i++) { print "line " i " of a flood that goes on and on"; if (i %% 1000 == 0) { print "error " i > "/dev/stderr" } } printf "the end" }'; exit 7`, lines)
	k := b.launch(c, "flood", shell(2, script), nil)
	before := countFiles(t, os.Getpid())
	done := make(chan Exit, 1)
	go func() { e, _ := c.Wait(b.ctx, "flood"); done <- e }()
	killed := 0
	for ; killed < kills; killed++ {
		select {
		case e := <-done:
			t.Logf("flood ended after %d kills", killed)
			done <- e
		case <-time.After(time.Duration(rand.IntN(8000)) * time.Microsecond):
			old := c.PID()
			killKeeper(t, c)
			newKeeper(t, c, old)
			continue
		}
		break
	}
	exit := <-done
	if !exit.Known || exit.Status.ExitStatus() != 7 {
		t.Errorf("after %d kills: exit %+v", killed, exit)
	}
	var want, wantErr strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d of a flood that goes on and on\n", i)
		if i%1000 == 0 {
			fmt.Fprintf(&wantErr, "error %d\n", i)
		}
	}
	want.WriteString("the end")
	log := parseLog(t, k.log)
	compare(t, "stdout", raw(log, "stdout"), want.String())
	compare(t, "stderr", raw(log, "stderr"), wantErr.String())
	partial := 0
	for _, e := range log {
		if e.tag == "P" {
			partial++
		}
	}
	if partial != 1 {
		t.Errorf("%d partial entries, want that of the end alone", partial)
	}
	t.Logf("%d kills, %d entries", killed, len(log))
	if killed < kills/4 {
		t.Errorf("only %d kills before the flood ended", killed)
	}
	if err := c.Forget(b.ctx, "flood"); err != nil {
		t.Error(err)
	}
	if after := settledFiles(t, os.Getpid(), before); after > before {
		t.Errorf("client: %d descriptors before the kills, %d after", before, after)
	}
}

func compare(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	n := 0
	for n < len(got) && n < len(want) && got[n] == want[n] {
		n++
	}
	t.Errorf("%s: %d bytes, want %d; they differ at %d: %.80q, want %.80q", what, len(got), len(want), n, got[n:], want[n:])
}

// Processes that end while no keeper is there, with every kind of exit.
func TestRootExitCodesOverTheKeepersDeath(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	gate := filepath.Join(b.cfg.StateDir, "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	hold, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const n = 20
	for i := range n {
		b.launch(c, fmt.Sprint("k", i), shell(2, fmt.Sprintf("read x < %s; echo bye; exit %d", gate, 10+i)), nil)
	}
	b.launch(c, "killed", shell(2, "sleep 60"), nil)
	b.launch(c, "before", shell(2, "exit 5"), nil)
	if e := <-c.Exits(); e.Key != "before" {
		t.Fatalf("exit %+v", e)
	}
	old := c.PID()
	killKeeper(t, c)
	if _, err := hold.WriteString(strings.Repeat("go\n", n)); err != nil {
		t.Fatal(err)
	}
	victim, _ := c.holdings.process("killed", false)
	if err := unix.PidfdSendSignal(victim.pidfd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for range n + 1 {
		e := <-c.Exits()
		if seen[e.Key] {
			t.Errorf("%s told twice", e.Key)
		}
		seen[e.Key] = true
		var i int
		if _, err := fmt.Sscanf(e.Key, "k%d", &i); err == nil {
			if !e.Known || !e.Status.Exited() || e.Status.ExitStatus() != 10+i {
				t.Errorf("exit %+v, want code %d", e, 10+i)
			}
			if got := raw(parseLog(t, filepath.Join(b.cfg.StateDir, e.Key+".log")), "stdout"); got != "bye\n" {
				t.Errorf("%s: log has %q", e.Key, got)
			}
		} else if !e.Known || e.Status.Signal() != syscall.SIGKILL {
			t.Errorf("exit %+v, want SIGKILL", e)
		}
	}
	hold.Close()
	newKeeper(t, c, old)
	// The new keeper has it all, for the daemon after this one.
	c.Close()
	c = b.connect()
	exits := 0
	for _, k := range c.Kept() {
		if k.Exit == nil || !k.Exit.Known {
			t.Errorf("%s: exit %+v", k.Key, k.Exit)
		}
		exits++
		k.PidFD.Close()
	}
	if exits != n+2 {
		t.Errorf("%d kept, want %d", exits, n+2)
	}
}

// Calls made while the keeper is away wait for the next one; a launch under way fails and leaves nothing.
func TestRootCallsOverTheKeepersDeath(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	p := &builder{}
	p.p.Clone.Cgroup = -1
	p.p.Slots = []string{"mark"}
	p.step(unix.SYS_PPOLL, imm(0), imm(0), imm(0), imm(0)) // for ever
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	hung := make(chan error, 1)
	go func() {
		_, err := c.Launch(b.ctx, Launch{Key: "hung", Program: &p.p, Files: []*os.File{w}})
		hung <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if err := c.Hold(b.ctx, "pod", map[string]*os.File{"net": os.Stdin}); err != nil {
		t.Fatal(err)
	}
	old := c.PID()
	killKeeper(t, c)
	if err := <-hung; !errors.Is(err, ErrInterrupted) {
		t.Errorf("launch under way: %v", err)
	}
	newKeeper(t, c, old)
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the hung child is still there: %v", err)
	}
	r.Close()
	for i := range 5 {
		old := c.PID()
		killKeeper(t, c)
		if err := c.Hold(b.ctx, fmt.Sprint("pod", i), map[string]*os.File{"net": os.Stdin}); err != nil {
			t.Error(err)
		}
		if err := c.Forget(b.ctx, "nothing"); err != nil {
			t.Error(err)
		}
		b.launch(c, fmt.Sprint("run", i), shell(2, "exit 3"), nil)
		if e := b.wait(c, fmt.Sprint("run", i)); e.Status.ExitStatus() != 3 {
			t.Errorf("exit %+v", e)
		}
		newKeeper(t, c, old)
	}
	c.Close()
	c = b.connect()
	if n := len(c.Kept()); n != 1+5+5 {
		t.Errorf("%d keys kept, want 11", n)
	}
}

// The log is rotated again and again in a flood; the files together have every byte, and each ends with
// a whole entry. With kills of the keeper in between in the second half.
func TestRootReopenInAFlood(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	const lines = 1_500_000
	k := b.launch(c, "flood", shell(2, fmt.Sprintf(`seq -f 'line %%.0f' 1 %d`, lines)), nil)
	done := make(chan struct{})
	go func() { _, _ = c.Wait(b.ctx, "flood"); close(done) }()
	logs := []string{k.log}
	for i := 1; ; i++ {
		select {
		case <-done:
		case <-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond):
			next := fmt.Sprintf("%s.%d", k.log, i)
			f := b.openLog(next)
			if i > 15 && i%2 == 0 {
				if fd, err := unix.PidfdOpen(c.PID(), 0); err == nil {
					_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // it may just have been replaced
					unix.Close(fd)
				}
			}
			if err := c.Reopen(b.ctx, "flood", f); err != nil {
				t.Errorf("reopen %d: %v", i, err)
			}
			f.Close()
			logs = append(logs, next)
			continue
		}
		break
	}
	var got strings.Builder
	used := 0
	for _, name := range logs {
		entries := parseLog(t, name)
		if len(entries) > 0 {
			used++
		}
		got.WriteString(raw(entries, "stdout"))
	}
	var want strings.Builder
	for i := 1; i <= lines; i++ {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	compare(t, "stdout", got.String(), want.String())
	t.Logf("%d files, %d with entries", len(logs), used)
	if err := c.Reopen(b.ctx, "nobody", os.Stderr); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("reopen of an unknown key: %v", err)
	}
}

// A disk that is full stops one container's log, and nothing is lost once there is room.
func TestRootFullDisk(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	mnt := filepath.Join(b.cfg.StateDir, "small")
	if err := os.Mkdir(mnt, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal("mount a small disk: ", err)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	ballast := filepath.Join(mnt, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	log := b.openLog(filepath.Join(mnt, "0.log"))
	defer log.Close()
	b.launch(c, "full", shell(2, "seq 1 4000; echo bad >&2; exit 4"), func(l *Launch) { l.Log = log })
	b.launch(c, "other", shell(2, "seq 1 4000"), nil)
	b.wait(c, "other")
	if e := b.wait(c, "full"); e.Status.ExitStatus() != 4 {
		t.Errorf("exit %+v", e)
	}
	old := c.PID()
	killKeeper(t, c) // with half a batch in the log
	newKeeper(t, c, old)
	spare := b.openLog(filepath.Join(b.cfg.StateDir, "spare"))
	defer spare.Close()
	if err := c.Reopen(b.ctx, "full", spare); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("reopen with a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := 1; i <= 4000; i++ {
		fmt.Fprintln(&want, i)
	}
	var entries []entry
	for range 100 {
		time.Sleep(50 * time.Millisecond)
		if b, err := os.ReadFile(log.Name()); err != nil || !strings.HasSuffix(string(b), "\n") {
			continue
		}
		if entries = parseLog(t, log.Name()); len(entries) == 4001 {
			break
		}
	}
	compare(t, "stdout", raw(entries, "stdout"), want.String())
	compare(t, "stderr", raw(entries, "stderr"), "bad\n")
}
