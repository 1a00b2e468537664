package keeper

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

func null(t *testing.T, n int) []int {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fds := make([]int, n)
	for i := range fds {
		if fds[i], err = dupFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return fds
}

func exitRecord(key string, pid, code int) *wire.Record {
	return &wire.Record{Key: key, PID: pid, Exit: &wire.Exit{Status: syscall.WaitStatus(code << 8), Known: true, At: time.Unix(1, 2)}}
}

func TestHoldingsHandOverWhatTheyTookOver(t *testing.T) {
	before := countFiles(t, os.Getpid())
	s := newHoldings()
	for _, r := range []*wire.Record{
		{Key: "held", Holds: []string{"net", "ipc"}},
		{Key: "running", HasPidFD: true, PID: 7, MaxLine: 99, Generation: 3, Streams: []string{"stdout", "stderr"}, Journals: true, Logs: 1, Holds: []string{"tty"}},
		{Key: "thrown away", HasPidFD: true, PID: 8, Streams: []string{"stdout"}, Oneshot: true},
		{Key: "ended", HasPidFD: true, PID: 9, Exit: &wire.Exit{Status: 256, Known: true, At: time.Unix(3, 4)}},
	} {
		kept, err := s.takeOver(r, null(t, r.Files()))
		if err != nil {
			t.Fatal(err)
		}
		if kept.Key != r.Key || kept.PID != r.PID || len(kept.Files) != len(r.Holds) || (kept.PidFD != nil) != r.HasPidFD || (kept.Exit != nil) != (r.Exit != nil) {
			t.Errorf("%s: kept %+v", r.Key, kept)
		}
		for _, f := range kept.Files {
			f.Close()
		}
		if kept.PidFD != nil {
			kept.PidFD.Close()
		}
		got, fds, err := s.record(r.Key)
		if err != nil {
			t.Fatal(err)
		}
		if got.Files() != len(fds) || got.Files() != r.Files() || fmt.Sprint(got.Streams) != fmt.Sprint(r.Streams) ||
			got.Generation != r.Generation || got.MaxLine != r.MaxLine || got.Oneshot != r.Oneshot || (got.Exit == nil) != (r.Exit == nil) {
			t.Errorf("handed over %+v, taken over %+v", got, r)
		}
		closeAll(fds...)
	}
	if keys := s.keys(map[string]bool{"held": true, "ended": true}); len(keys) != 2 {
		t.Errorf("keys %v", keys)
	}
	if r, _, err := s.record("nobody"); r != nil || err != nil {
		t.Errorf("record of nobody: %+v, %v", r, err)
	}
	s.close()
	if after := countFiles(t, os.Getpid()); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestHoldingsTellAnExitOnce(t *testing.T) {
	s := newHoldings()
	done := make(chan struct{})
	go s.exits.run(done)
	for i, oneshot := range []bool{false, true} {
		cl := &call{key: fmt.Sprint("k", i), launch: newProcess()}
		cl.launch.oneshot = oneshot
		s.launched(cl, 100+i, null(t, 1)[0])
		for range 3 {
			s.exited(exitRecord(cl.key, 100+i, 5))
			s.exited(exitRecord(cl.key, 999, 6)) // of an earlier process under this key
		}
		if e := <-s.exits.out; e.Key != cl.key || e.Status.ExitStatus() != 5 || !e.At.Equal(time.Unix(1, 2)) {
			t.Errorf("exit %+v", e)
		}
		p, e := s.process(cl.key, true)
		if oneshot && (p != nil || e.Key != cl.key) || !oneshot && (p == nil || s.exit(cl.key, p).Status.ExitStatus() != 5) {
			t.Errorf("oneshot %v: process %v, exit %+v", oneshot, p, e)
		}
	}
	if _, e := s.process("k1", true); e.Key != "" {
		t.Errorf("a oneshot's end is remembered for a second wait: %+v", e)
	}
	if s.known("k1") || !s.known("k0") {
		t.Error("a oneshot is held after its exit, or another process is not")
	}
	s.exited(exitRecord("nobody", 1, 1))
	close(done)
	if e, open := <-s.exits.out; open {
		t.Errorf("exit %+v told", e)
	}
	s.close()
}

// A launch that was given up leaves what Hold put under its key before.
func TestHoldingsUndo(t *testing.T) {
	s := newHoldings()
	s.add("k", map[string]int{"net": null(t, 1)[0]})
	cl := &call{key: "k", launch: newProcess()}
	s.launched(cl, 1, null(t, 1)[0])
	s.undo("k", newProcess()) // another's
	if p, _ := s.process("k", false); p != cl.launch {
		t.Error("another launch's process was dropped")
	}
	s.undo("k", cl.launch)
	cl.launch.close()
	if p, _ := s.process("k", false); p != nil || !s.known("k") {
		t.Error("the process is still there, or what was held is not")
	}
	s.drop("k")
	s.drop("k")
	if s.known("k") {
		t.Error("key is held after drop")
	}
}

func TestHoldingsReopen(t *testing.T) {
	before := countFiles(t, os.Getpid())
	s := newHoldings()
	p := newProcess()
	if _, err := s.beginReopen(p, null(t, 1)[0]); err == nil {
		t.Error("a process without a log has it reopened")
	}
	p.logs = null(t, 1)
	old := p.logs[0]
	if g, err := s.beginReopen(p, null(t, 1)[0]); g != 1 || err != nil || len(p.logs) != 2 {
		t.Errorf("generation %d, %v, %d logs", g, err, len(p.logs))
	}
	if err := s.endReopen(p, syscall.ENOSPC); err != syscall.ENOSPC || len(p.logs) != 1 || p.logs[0] != old || p.generation != 0 {
		t.Errorf("refused: %v, logs %v, generation %d", err, p.logs, p.generation)
	}
	if _, err := s.beginReopen(p, null(t, 1)[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.endReopen(p, nil); err != nil || len(p.logs) != 1 || p.logs[0] == old || p.generation != 1 {
		t.Errorf("done: %v, logs %v, generation %d", err, p.logs, p.generation)
	}
	p.close()
	p.close()
	if after := countFiles(t, os.Getpid()); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestPastIsBounded(t *testing.T) {
	var p past
	for i := range 3 * pastMost {
		p.add(Exit{Key: fmt.Sprint(i)})
	}
	if len(p.exits) != pastMost || len(p.order) != pastMost {
		t.Errorf("%d remembered, %d in order", len(p.exits), len(p.order))
	}
	if _, ok := p.take(fmt.Sprint(3*pastMost - 1)); !ok {
		t.Error("the latest is forgotten")
	}
	if _, ok := p.take("0"); ok {
		t.Error("the first is remembered")
	}
}
