package cgroup

import (
	"errors"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestFormerly(t *testing.T) {
	for _, c := range []struct{ file, value, text, want string }{
		{"memory.max", "5", "max", "max"},
		{"cpu.max", "50000 100000", "max 100000", "max 100000"},
		{"cpuset.cpus", "0", "", "\n"},
		{"io.max", "8:16 rbps=1", "8:0 rbps=5 wbps=max\n8:16 rbps=2 wbps=max", "8:16 rbps=2 wbps=max"},
		{"io.max", "8:1 rbps=1", "8:16 rbps=2 wbps=max", "8:1 rbps=max wbps=max riops=max wiops=max"},
		{"io.weight", "default 50", "default 100\n8:16 7", "default 100"},
		{"blkio.throttle.read_bps_device", "8:0 1", "", "8:0 0"},
	} {
		if got := formerly(setting{file: c.file, value: c.value}, c.text); got != c.want {
			t.Errorf("%s %q over %q: %q, want %q", c.file, c.value, c.text, got, c.want)
		}
	}
}

// TestRootUpdateIsWhole: an update of which the kernel refuses a part changes nothing,
// and one that is taken back leaves nothing.
func TestRootUpdateIsWhole(t *testing.T) {
	tree, parent, _ := realTree(t)
	g, err := tree.Create(parent+"/c", typical())
	if err != nil {
		t.Fatal(err)
	}
	defer remove(t, tree, g)
	files := map[string][]string{"cpu": {"cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"}, "memory": {"memory.limit_in_bytes"}, "pids": {"pids.max"}, "cpuset": {"cpuset.cpus"}}
	if tree.Mode() == V2 {
		files = map[string][]string{"cpu": {"cpu.weight", "cpu.max"}, "memory": {"memory.max", "memory.swap.max", "memory.oom.group"}, "pids": {"pids.max"}, "cpuset": {"cpuset.cpus"}}
	}
	state := func() string {
		var out strings.Builder
		for _, controller := range []string{"cpu", "memory", "pids", "cpuset"} {
			for _, file := range files[controller] {
				out.WriteString(file + "=" + content(t, g, controller, file) + "\n")
			}
		}
		return out.String()
	}
	before := state()
	more := &specs.LinuxResources{
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(2048)), Quota: ptr(int64(80000)), Period: ptr(uint64(50000)), Cpus: "0"},
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(128 << 20)), Swap: ptr(int64(128 << 20))},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(7))},
		Unified: map[string]string{"memory.oom.group": "1"},
	}
	undo, err := g.Update(more)
	if err != nil {
		t.Fatal(err)
	}
	if state() == before {
		t.Error("nothing was changed")
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
	if got := state(); got != before {
		t.Errorf("taken back:\n%swant\n%s", got, before)
	}
	wrong := *more
	wrong.CPU = &specs.LinuxCPU{Shares: ptr(uint64(2048)), Quota: ptr(int64(80000)), Cpus: "4000"} // no machine has it
	wrong.Unified = nil
	if _, err := g.Update(&wrong); !errors.Is(err, ErrInvalidLimit) || !strings.Contains(err.Error(), "4000") {
		t.Errorf("a processor that is not there: %v", err)
	}
	if got := state(); got != before {
		t.Errorf("after a refused update:\n%swant\n%s", got, before)
	}
}
