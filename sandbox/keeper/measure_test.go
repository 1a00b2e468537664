package keeper

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"
)

// realBed is a bed with the real keeper, built as it is shipped.
func realBed(t testing.TB) *bed {
	b := newBed(t)
	b.cfg.Binary = filepath.Join(t.TempDir(), "berth-keeper")
	build(t, b.cfg.Binary)
	return b
}

// TestRootManyContainers measures what a keeper costs with 1,000 containers, and holds it to its budget.
func TestRootManyContainers(t *testing.T) {
	needRoot(t)
	if testing.Short() {
		t.Skip("long")
	}
	b := realBed(t)
	c := b.connect()
	drainExits(c)
	time.Sleep(200 * time.Millisecond)
	rss, pss := memory(t, c.PID())
	t.Logf("no container: RSS %d KiB, PSS %d KiB", rss, pss)
	log := b.openLog(filepath.Join(b.cfg.StateDir, "all.log"))
	defer log.Close()
	// The processes are of no interest here: their writing ends stay open in this process.
	const n = 1000
	var ends []*os.File
	defer func() {
		for _, f := range ends {
			f.Close()
		}
	}()
	var took []time.Duration
	for i := range n {
		l := Launch{Key: fmt.Sprint("c", i), Program: execute(0, "/bin/true"), Log: log}
		for _, name := range []string{"stdout", "stderr"} {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			l.Streams = append(l.Streams, Stream{Name: name, File: r})
			ends = append(ends, w)
			defer r.Close()
		}
		begin := time.Now()
		p, err := c.Launch(b.ctx, l)
		took = append(took, time.Since(begin))
		if err != nil {
			t.Fatal(err)
		}
		p.PidFD.Close()
		for _, s := range l.Streams {
			s.File.Close()
		}
	}
	for _, w := range ends { // each has logged once
		if _, err := w.WriteString("a line\n"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second)
	rss, pss = memory(t, c.PID())
	first, last := took[:50], took[n-50:]
	sort.Slice(first, func(i, j int) bool { return first[i] < first[j] })
	sort.Slice(last, func(i, j int) bool { return last[i] < last[j] })
	t.Logf("%d containers: RSS %d KiB, PSS %d KiB; a launch at first %v, at last %v", n, rss, pss, first[25], last[25])
	if limit := 5<<10 + n*8; rss > limit {
		t.Errorf("RSS %d KiB, budget %d", rss, limit)
	}
	begin := time.Now()
	old := c.PID()
	killKeeper(t, c)
	newKeeper(t, c, old)
	t.Logf("replaced by a new keeper in %v", time.Since(begin))
}

// TestRootFloodFairness: a container's lines get into its log promptly while others flood theirs.
func TestRootFloodFairness(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	null := b.openLog(os.DevNull)
	defer null.Close()
	for i := range 4 {
		b.launch(c, fmt.Sprint("flood", i), shell(2, "yes 0123456789"), func(l *Launch) { l.Log = null })
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	k := b.launch(c, "quiet", shell(0, "sleep 60"), func(l *Launch) {
		l.Files, l.Streams = nil, []Stream{{Name: "stdout", File: r}}
	})
	r.Close()
	var delays []time.Duration
	for i := range 50 {
		begin := time.Now()
		if _, err := fmt.Fprintln(w, "line", i); err != nil {
			t.Fatal(err)
		}
		for {
			st, err := os.Stat(k.log)
			if err == nil && st.Size() >= int64((i+1)*(len("2016-10-06T00:17:09.669794202Z stdout F line 0")+1)) {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatal("the line doesn't come")
			}
			time.Sleep(time.Millisecond)
		}
		delays = append(delays, time.Since(begin))
	}
	sort.Slice(delays, func(i, j int) bool { return delays[i] < delays[j] })
	t.Logf("beside 4 floods on 2 processors: median %v, longest %v", delays[25], delays[49])
	if delays[25] > 500*time.Millisecond {
		t.Errorf("median delay %v", delays[25])
	}
}

// BenchmarkRootCopy is the way of 100-byte lines from a pipe to a log file.
func BenchmarkRootCopy(b *testing.B) {
	needRoot(b)
	const size = 256 << 20
	bed := realBed(b)
	c := bed.connect()
	drainExits(c)
	b.SetBytes(size)
	for i := range b.N {
		key := fmt.Sprint("k", i)
		k := bed.launch(c, key, shell(2, fmt.Sprintf("yes %099d | head -c %d", 1, size)), nil)
		bed.wait(c, key)
		b.StopTimer()
		b.ReportMetric(cpu(b, c.PID())/float64(i+1), "keeper-cpu-s/op")
		if err := c.Forget(bed.ctx, key); err != nil {
			b.Fatal(err)
		}
		os.Remove(k.log)
		b.StartTimer()
	}
}

// BenchmarkRootLaunch is an exec's way through the keeper: launch, exit, wait.
func BenchmarkRootLaunch(b *testing.B) {
	needRoot(b)
	bed := realBed(b)
	c := bed.connect()
	drainExits(c)
	for b.Loop() {
		p, err := c.Launch(bed.ctx, Launch{Key: "exec", Program: execute(0, "/bin/true"), Oneshot: true})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Wait(bed.ctx, "exec"); err != nil {
			b.Fatal(err)
		}
		p.PidFD.Close()
	}
}

// A stranger, another user than the keeper's, is refused even where the socket can be reached.
func TestRootStrangerIsRefused(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	b.cfg.Dir = filepath.Join("/tmp", filepath.Base(b.cfg.StateDir)+fmt.Sprint(os.Getpid()))
	defer os.RemoveAll(b.cfg.Dir)
	c := b.connect()
	if err := os.Chmod(b.cfg.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(b.cfg.Dir, "keeper.sock"), 0o777); err != nil {
		t.Fatal(err)
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := &exec.Cmd{Path: "/proc/self/fd/3", Args: []string{"stranger", b.cfg.Dir}, ExtraFiles: []*os.File{self}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "end of conversation\n" {
		t.Errorf("stranger: %q, %v", out, err)
	}
	if err := c.Forget(b.ctx, "k"); err != nil {
		t.Errorf("keeper after a stranger: %v", err)
	}
}

// cpu returns the seconds of processor time that a process has used.
func cpu(t testing.TB, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var user, system int
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	if _, err := fmt.Sscan(fields[14-3]+" "+fields[15-3], &user, &system); err != nil {
		t.Fatal(err)
	}
	return float64(user+system) / 100 // USER_HZ, time(7)
}
