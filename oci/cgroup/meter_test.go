package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// lay writes files of a group.
func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const pressureText = "some avg10=1.50 avg60=0.25 avg300=0.01 total=1234\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=56\n"

var pressureRead = &Pressure{Some: Stall{1.5, 0.25, 0.01, 1234000}, Full: Stall{0.5, 0, 0, 56000}}

func meterV2(t *testing.T) (*Meter, string) {
	tree, _ := fakeV2(t, []string{"cpu", "memory", "pids", "io"})
	dir := filepath.Join(tree.unified, "pod", "c")
	lay(t, dir, map[string]string{
		"cpu.stat":        "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 3\nthrottled_usec 90\n",
		"memory.current":  "1000\n",
		"memory.max":      "4096\n",
		"memory.peak":     "1200\n",
		"memory.low":      "100\n",
		"memory.stat":     "anon 400\nfile 300\nkernel 77\nfile_mapped 30\ninactive_file 250\npgfault 11\npgmajfault 2\n",
		"memory.events":   "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\n",
		"pids.current":    "5\n",
		"pids.max":        "max\n",
		"cpu.pressure":    pressureText,
		"memory.pressure": pressureText,
		"io.stat":         "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0 rbytes=10 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\nbroken\n",
	})
	m := tree.Load("/pod/c").Meter()
	t.Cleanup(m.Close)
	return m, dir
}

func TestUsageV2(t *testing.T) {
	m, dir := meterV2(t)
	got, err := m.Usage()
	if err != nil {
		t.Fatal(err)
	}
	want := &Usage{
		At: got.At, CPU: ptr(uint64(1500000)), Tasks: ptr(uint64(5)), CPUPressure: pressureRead, MemoryPressure: pressureRead,
		Memory: &MemoryUsage{Current: 1000, WorkingSet: 750, RSS: 400, Limit: 4096, Faults: 11, MajorFault: 2},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// The same files are read again, as they are by then. A node may have a swap limit without any swap.
	lay(t, dir, map[string]string{"memory.current": "100\n", "memory.max": "max\n"})
	if got, err = m.Usage(); err != nil || got.Memory.Current != 100 || got.Memory.WorkingSet != 0 || got.Memory.Limit != 0 || got.Swap != nil {
		t.Errorf("afterwards %+v, %v", got.Memory, err)
	}
}

// On a node with many groups not all files are held, and all are read.
func TestFilesAreHeldWithinBounds(t *testing.T) {
	m, _ := meterV2(t)
	held := &m.group.tree.held
	held.once.Do(func() { held.most = 3 })
	for range 3 {
		usage, err := m.Usage()
		if err != nil || usage.CPU == nil || usage.Memory == nil || usage.Tasks == nil || usage.MemoryPressure == nil {
			t.Fatalf("usage %+v, %v", usage, err)
		}
		if n := held.now.Load(); n != 3 {
			t.Errorf("%d files are held, 3 may be", n)
		}
	}
	m.Close()
	if n := held.now.Load(); n != 0 {
		t.Errorf("%d files are held by nobody", n)
	}
}

func TestSwapV2(t *testing.T) {
	for text, want := range map[string]*uint64{"max\n": nil, "0\n": ptr(uint64(0)), "300\n": ptr(uint64(300))} {
		m, dir := meterV2(t)
		lay(t, dir, map[string]string{"memory.swap.current": "20\n", "memory.swap.max": text})
		got, err := m.Usage()
		if err != nil || !reflect.DeepEqual(got.Swap, &SwapUsage{Current: 20, Limit: want}) {
			t.Errorf("swap.max %q: %+v, %v", text, got.Swap, err)
		}
	}
}

func TestDetailV2(t *testing.T) {
	m, _ := meterV2(t)
	got, err := m.Detail()
	if err != nil {
		t.Fatal(err)
	}
	want := &Detail{
		At:  got.At,
		CPU: &CPUDetail{User: 1000000, System: 500000, Periods: 7, Throttled: 3, ThrottledTime: 90000},
		Memory: &MemoryDetail{
			Cache: 300, MappedFile: 30, Kernel: 77, Peak: ptr(uint64(1200)), LimitHits: 4, OOMKills: 1,
			OwnFaults: 11, OwnMajorFaults: 2, Faults: 11, MajorFaults: 2, Reservation: 100, MemoryLimit: 4096,
		},
		Disks: []DiskUsage{
			{Major: 8, Minor: 0, ReadBytes: 10, ReadOperations: 1},
			{Major: 8, Minor: 16, ReadBytes: 1, WriteBytes: 2, DiscardBytes: 5, ReadOperations: 3, WriteOperations: 4},
		},
		MaxTasks: ptr(uint64(0)),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nmemory %+v\nwant %+v\nmemory %+v", got, got.Memory, want, want.Memory)
	}
}

// On v1 each controller has a directory, and the figures with what is below a group are other ones than its own.
func TestUsageV1(t *testing.T) {
	root := t.TempDir()
	tree := &Tree{mode: V1, unified: filepath.Join(root, "unified"), warned: map[string]bool{}, warn: func(Warning) {}}
	for controller, files := range map[string]map[string]string{
		"cpu": {"cpu.stat": "nr_periods 7\nnr_throttled 3\nthrottled_time 90\n"},
		"cpuacct": {
			"cpuacct.usage": "1500\n", "cpuacct.stat": "user 2\nsystem 1\n",
		},
		"memory": {
			"memory.usage_in_bytes": "1000\n", "memory.limit_in_bytes": "4096\n", "memory.memsw.limit_in_bytes": "5096\n",
			"memory.max_usage_in_bytes": "1200\n", "memory.failcnt": "4\n", "memory.kmem.usage_in_bytes": "77\n",
			"memory.soft_limit_in_bytes": "9223372036854771712\n",
			"memory.oom_control":         "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
			"memory.stat":                "rss 1\npgfault 9\npgmajfault 1\ntotal_rss 400\ntotal_cache 300\ntotal_mapped_file 30\ntotal_inactive_file 250\ntotal_pgfault 11\ntotal_pgmajfault 2\ntotal_swap 20\n",
		},
		"pids": {"pids.current": "5\n", "pids.max": "100\n"},
		"blkio": {
			"blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Discard 5\n8:0 Total 35\nTotal 35\n",
			"blkio.throttle.io_serviced_recursive":      "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
		},
	} {
		lay(t, filepath.Join(root, controller, "pod"), files)
		tree.hierarchies = append(tree.hierarchies, hierarchy{dir: filepath.Join(root, controller), controllers: []string{controller}})
	}
	lay(t, filepath.Join(root, "unified", "pod"), map[string]string{"io.pressure": pressureText})
	m := tree.Load("/pod").Meter()
	defer m.Close()
	usage, err := m.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if want := (&Usage{
		At: usage.At, CPU: ptr(uint64(1500)), Tasks: ptr(uint64(5)), IOPressure: pressureRead, Swap: &SwapUsage{Current: 20, Limit: ptr(uint64(1000))},
		Memory: &MemoryUsage{Current: 1000, WorkingSet: 750, RSS: 400, Limit: 4096, Faults: 11, MajorFault: 2},
	}); !reflect.DeepEqual(usage, want) {
		t.Errorf("got %+v, want %+v", usage, want)
	}
	detail, err := m.Detail()
	if err != nil {
		t.Fatal(err)
	}
	want := &Detail{
		At:  detail.At,
		CPU: &CPUDetail{User: 20_000_000, System: 10_000_000, Periods: 7, Throttled: 3, ThrottledTime: 90},
		Memory: &MemoryDetail{
			Cache: 300, MappedFile: 30, Kernel: 77, Peak: ptr(uint64(1200)), LimitHits: 4, OOMKills: 1,
			OwnFaults: 9, OwnMajorFaults: 1, Faults: 11, MajorFaults: 2, MemoryLimit: 4096, MemoryAndSwap: 5096,
		},
		Disks:    []DiskUsage{{Major: 8, ReadBytes: 10, WriteBytes: 20, DiscardBytes: 5, ReadOperations: 1, WriteOperations: 2}},
		MaxTasks: ptr(uint64(100)),
	}
	if !reflect.DeepEqual(detail, want) {
		t.Errorf("got %+v\nmemory %+v\nwant %+v\nmemory %+v", detail, detail.Memory, want, want.Memory)
	}
}

// A group without controllers (its parent delegates none) and a bad path.
func TestUsageOfNothing(t *testing.T) {
	tree, _ := fakeV2(t, nil)
	m := tree.Load("/pod/c").Meter()
	got, err := m.Usage()
	if err != nil || !reflect.DeepEqual(got, &Usage{At: got.At}) {
		t.Errorf("without files: %+v, %v", got, err)
	}
	m.Close()
	m.Close()
	for path, want := range map[string]error{"/": ErrInvalidPath, "/a/../b": ErrInvalidPath, "/none": ErrGone} {
		m := tree.Load(path).Meter()
		_, err := m.Usage()
		_, detailErr := m.Detail()
		if !errors.Is(err, want) || !errors.Is(detailErr, want) {
			t.Errorf("%s: %v, %v, want %v", path, err, detailErr, want)
		}
		m.Close()
	}
}

func TestRootUsage(t *testing.T) {
	tree, parent, _ := realTree(t)
	g, err := tree.Create(parent+"/c", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}})
	if err != nil {
		t.Fatal(err)
	}
	m := g.Meter()
	defer m.Close()
	eater := exec.Command("/bin/sh", "-c", `read go; x=$(head -c 8000000 /dev/zero | tr '\0' x); echo ${#x}; read end`)
	in, out := pipes(t, eater)
	startWith(t, g, eater, in)
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	usage, err := m.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if usage.CPU == nil || *usage.CPU == 0 || usage.Memory == nil || usage.Memory.Current == 0 || usage.Memory.RSS == 0 || usage.Memory.Limit != 64<<20 || usage.Memory.Faults == 0 {
		t.Errorf("usage %+v, memory %+v", usage, usage.Memory)
	}
	if usage.Tasks == nil || *usage.Tasks != 1 {
		t.Errorf("tasks %v", usage.Tasks)
	}
	if _, err := os.Stat("/proc/pressure"); err == nil && tree.unified != "" && usage.CPUPressure == nil {
		t.Error("no pressure on a node that has it")
	}
	detail, err := m.Detail()
	if err != nil || detail.Memory == nil || detail.Memory.MemoryLimit != 64<<20 || detail.CPU == nil {
		t.Errorf("detail %+v, %v", detail, err)
	}
	in.Close()
	_ = eater.Wait()
	remove(t, tree, g)
	if _, err := m.Usage(); !errors.Is(err, ErrGone) {
		t.Errorf("usage of a removed group: %v", err)
	}
	if _, err := m.Detail(); !errors.Is(err, ErrGone) {
		t.Errorf("detail of a removed group: %v", err)
	}
}

// BenchmarkUsage compares held files with those opened at each reading.
func BenchmarkUsage(b *testing.B) {
	tree, g := realGroup(b)
	defer remove(b, tree, g)
	b.Run("held", func(b *testing.B) {
		m := g.Meter()
		defer m.Close()
		for b.Loop() {
			if _, err := m.Usage(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("opened", func(b *testing.B) {
		for b.Loop() {
			m := g.Meter()
			if _, err := m.Usage(); err != nil {
				b.Fatal(err)
			}
			m.Close()
		}
	})
}

// pipes gives what the command reads and writes.
func pipes(t *testing.T, cmd *exec.Cmd) (in, out *os.File) {
	t.Helper()
	fromUs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout = fromUs, toUs
	t.Cleanup(func() { in.Close(); out.Close(); fromUs.Close(); toUs.Close() })
	return in, out
}

// startWith runs a command in the group, which waits for a line on in first.
func startWith(t *testing.T, g *Group, cmd *exec.Cmd, in *os.File) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(cmd.Process.Pid, unix.SIGKILL); _ = cmd.Wait() })
	if err := g.Adopt(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
}

// A group that goes while it is looked at is gone: what was read until then is no detail of it.
func TestDetailOfAGroupThatGoes(t *testing.T) {
	m, dir := meterV2(t)
	stat := filepath.Join(dir, "memory.stat") // read when the processors are known already
	if err := os.Remove(stat); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(stat, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { // ends with the FIFO's only writer
		detail, err := m.Detail()
		if detail != nil {
			t.Errorf("detail %+v", detail)
		}
		done <- err
	}()
	w, err := os.OpenFile(stat, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-done; !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want %v", err, ErrGone)
	}
}

// A reading leaves little garbage, however many lines the kernel writes: statistics of a thousand containers are asked for every
// few seconds.
func TestUsageMakesLittleGarbage(t *testing.T) {
	m, dir := meterV2(t)
	text := "anon 400\nfile 300\ninactive_file 250\npgfault 11\npgmajfault 2\n"
	for i := range 200 {
		text += fmt.Sprintf("counter_%d %d\n", i, 1<<40+i)
	}
	lay(t, dir, map[string]string{"memory.stat": text})
	allocations := testing.AllocsPerRun(50, func() {
		if u, err := m.Usage(); err != nil || u.Memory.MajorFault != 2 || u.CPUPressure == nil {
			t.Fatalf("%+v, %v", u, err)
		}
	})
	if allocations > 40 {
		t.Errorf("a reading makes %v objects", allocations)
	}
}
