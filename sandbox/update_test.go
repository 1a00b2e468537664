package sandbox

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// TestUpdateContainer: limits are changed in the cgroup, on disk and in what clients
// see, or nowhere.
func TestUpdateContainer(t *testing.T) {
	w := newWorld(t)
	d := w.start()
	config := containerConfig("c")
	config.Resources = &spec.Resources{CPUShares: 100, MemoryLimit: 1 << 20, OOMScoreAdj: 7}
	id := d.create(d.runPod(podConfig("p")), config)
	check := func(d *daemon, when string) {
		t.Helper()
		i, err := d.m.Container(id)
		if err != nil {
			t.Fatal(err)
		}
		r := i.Resources
		if r.CPUShares != 200 || r.MemoryLimit != 1<<20 || r.OOMScoreAdj != 7 || r.Unified["memory.oom.group"] != "1" {
			t.Errorf("%s the limits are %+v", when, r)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if l := w.limits[i.Cgroup]; l == nil || *l.CPU.Shares != 200 || l.Memory != nil {
			t.Errorf("%s the cgroup has got %+v", when, l)
		}
	}
	update := func(r *spec.Resources) error { return d.m.UpdateContainer(t.Context(), id, r) }
	if err := update(&spec.Resources{CPUShares: 200, OOMScoreAdj: 9, Unified: map[string]string{"memory.oom.group": "1"}}); err != nil {
		t.Fatal(err)
	}
	check(d, "after the update")
	d.begin(id)
	for _, wrong := range []*spec.Resources{{MemoryLimit: -2}, {MemorySwap: 1}, {CpusetCPUs: "x"}} {
		if err := update(wrong); !errors.Is(err, spec.ErrInvalid) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	for _, op := range []string{"update cgroup", "write container"} {
		d.fail(op, unix.ENOSPC)
		if err := update(&spec.Resources{CPUShares: 300}); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s fails: %v", op, err)
		}
		d.fail(op, nil)
		check(d, "when "+op+" failed")
	}
	d.kill()
	d = w.start()
	check(d, "with the next daemon")
	if err := update(&spec.Resources{MemoryLimit: 2 << 20}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	for _, l := range w.limits {
		if l.CPU != nil || *l.Memory.Limit != 2<<20 || *l.Memory.Swap != 2<<20 {
			t.Errorf("the memory limit alone: %+v", l)
		}
	}
	w.mu.Unlock()
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if err := update(&spec.Resources{CPUShares: 1}); !errors.Is(err, ErrState) {
		t.Errorf("a stopped container: %v", err)
	}
	if err := d.m.UpdateContainer(t.Context(), "none", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown container: %v", err)
	}
}

// TestUpdateBeforeStartWithTheNextDaemon: that one makes the cgroup with the new limits.
func TestUpdateBeforeStartWithTheNextDaemon(t *testing.T) {
	w := newWorld(t)
	d := w.start()
	id := d.create(d.runPod(podConfig("p")), containerConfig("c"))
	d.kill()
	d = w.start()
	if err := d.m.UpdateContainer(t.Context(), id, &spec.Resources{MemoryLimit: 5 << 20}); err != nil {
		t.Fatal(err)
	}
	d.begin(id)
	i, err := d.m.Container(id)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.limits[i.Cgroup]; l == nil || l.Memory == nil || *l.Memory.Limit != 5<<20 {
		t.Errorf("started with %+v", l)
	}
}

func TestUpdatePod(t *testing.T) {
	w := newWorld(t)
	d := w.start()
	config := podConfig("p")
	config.Overhead = &spec.Resources{MemoryLimit: 3}
	id := d.runPod(config)
	if err := d.m.UpdatePod(t.Context(), id, nil, &spec.Resources{CPUQuota: 1000, CPUPeriod: 2000}); err != nil {
		t.Fatal(err)
	}
	d.kill()
	p, _, err := w.start().m.Pod(id)
	if err != nil {
		t.Fatal(err)
	}
	if p.Config.Overhead.MemoryLimit != 3 || p.Config.Resources.CPUQuota != 1000 {
		t.Errorf("recorded: overhead %+v, resources %+v", p.Config.Overhead, p.Config.Resources)
	}
	if err := d.m.UpdatePod(t.Context(), "none", nil, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown pod: %v", err)
	}
}
