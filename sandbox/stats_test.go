package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/cgroup"
)

func ptr[T any](v T) *T { return &v }

// using sets what a cgroup of the fake host uses.
func (w *world) using(path string, u cgroup.Usage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.usage[path] = u
}

func (d *daemon) mustContainer(id string) *ContainerInfo {
	d.t.Helper()
	info, err := d.m.Container(id)
	if err != nil {
		d.t.Fatal(err)
	}
	return info
}

func TestContainerStats(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("p"))
	id := d.create(pod, containerConfig("c"))
	for _, unknown := range []string{"none", "ffff"} {
		if _, err := d.m.ContainerStats(unknown); !errors.Is(err, ErrNotFound) {
			t.Errorf("stats of %s: %v", unknown, err)
		}
	}
	if _, err := d.m.ContainerStats(id); !errors.Is(err, ErrState) {
		t.Errorf("stats of a container that is not started: %v", err)
	}
	d.begin(id)
	group := d.mustContainer(id).Cgroup
	d.using(group, cgroup.Usage{CPU: ptr(uint64(7)), Memory: &MemoryUsage{Current: 9}})
	stats, err := d.m.ContainerStats(id[:20])
	if err != nil {
		t.Fatal(err)
	}
	if stats.Container.ID != id || *stats.Usage.CPU != 7 || stats.Usage.Memory.Current != 9 || stats.Layer.Bytes != 4096 || stats.Layer.Mountpoint != d.dir {
		t.Errorf("stats %+v, layer %+v", stats, stats.Layer)
	}
	if stats.NanoCores != nil {
		t.Errorf("a rate of %d without a window", *stats.NanoCores)
	}
	// Whoever asks within a second gets the same sample, with its time.
	again, err := d.m.ContainerStats(id)
	if err != nil || again.Usage != stats.Usage || d.readings[group] != 1 {
		t.Errorf("asked again: %v, %d readings", err, d.readings[group])
	}
	if err := d.m.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.m.ContainerStats(id); !errors.Is(err, ErrState) {
		t.Errorf("stats of a stopped container: %v", err)
	}
	if !slices.Contains(d.closedMeters, group) {
		t.Error("the files of a stopped container stay open")
	}
}

func TestNanoCores(t *testing.T) {
	began := time.Unix(1000, 0)
	sample := func(after time.Duration, cpu uint64) *cgroup.Usage {
		return &cgroup.Usage{At: began.Add(after), CPU: &cpu}
	}
	for name, c := range map[string]struct {
		before, now *cgroup.Usage
		began       time.Time
		want        *uint64
	}{
		"half a processor":          {sample(10*time.Second, 1e9), sample(20*time.Second, 6e9), began, ptr(uint64(5e8))},
		"idle":                      {sample(10*time.Second, 1e9), sample(20*time.Second, 1e9), began, ptr(uint64(0))},
		"first, since the start":    {nil, sample(10*time.Second, 5e9), began, ptr(uint64(5e8))},
		"first, long after":         {nil, sample(time.Hour, 5e9), began, nil},
		"first, at once":            {nil, sample(time.Millisecond, 5e5), began, nil},
		"first, start not known":    {nil, sample(10*time.Second, 5e9), time.Time{}, nil},
		"the count went backwards":  {sample(10*time.Second, 9e9), sample(20*time.Second, 1e9), began, nil},
		"no processor is counted":   {nil, &cgroup.Usage{At: began}, began, nil},
		"the clock went backwards":  {sample(20*time.Second, 1e9), sample(10*time.Second, 2e9), began, nil},
		"a window of half a second": {sample(10*time.Second, 1e9), sample(10500*time.Millisecond, 2e9), began, nil},
	} {
		got := nanoCores(c.before, c.now, c.began)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %v, want %v", name, deref(got), deref(c.want))
		}
	}
}

func deref(n *uint64) any {
	if n == nil {
		return nil
	}
	return *n
}

func TestListContainerStats(t *testing.T) {
	d := newWorld(t).start()
	a, b := d.runPod(podConfig("a")), d.runPod(podConfig("b"))
	one, two, three := d.create(a, containerConfig("one")), d.create(b, containerConfig("two")), d.create(b, containerConfig("three"))
	d.begin(one)
	d.begin(two)
	for name, c := range map[string]struct {
		filter ContainerFilter
		want   []string
	}{
		"all":         {ContainerFilter{}, []string{one, two}},
		"pod":         {ContainerFilter{PodID: b}, []string{two}},
		"id":          {ContainerFilter{ID: one[:12]}, []string{one}},
		"not running": {ContainerFilter{ID: three}, nil},
		"both":        {ContainerFilter{ID: one, PodID: b}, nil},
		"label":       {ContainerFilter{Labels: map[string]string{"no": "such"}}, nil},
	} {
		var got []string
		for _, s := range d.m.ListContainerStats(c.filter) {
			got = append(got, s.Container.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, wanted %v", name, got, c.want)
		}
	}
	// One whose cgroup has just gone is left out, the others stay.
	group := d.mustContainer(one).Cgroup
	d.mu.Lock()
	delete(d.cgroups, group)
	d.mu.Unlock()
	d.m.gauges.drop(one)
	if got := d.m.ListContainerStats(ContainerFilter{}); len(got) != 1 || got[0].Container.ID != two {
		t.Errorf("with one that ends: %d", len(got))
	}
	if _, err := d.m.ContainerStats(one); !errors.Is(err, ErrState) {
		t.Errorf("stats of one that has just ended: %v", err)
	}
}

// A pod has the figures of the cgroup that kubelet made for it alone, otherwise the sum of its containers'.
func TestPodStats(t *testing.T) {
	const uid = "0f1e2d3c-aaaa-bbbb-cccc-123456789abc"
	for name, c := range map[string]struct {
		driver, parent, group string
	}{
		"kubelet's":           {"cgroupfs", "/kubepods/burstable/pod" + uid, "/kubepods/burstable/pod" + uid},
		"kubelet's, systemd":  {"systemd", "/kubepods.slice/kubepods-pod0f1e2d3c_aaaa_bbbb_cccc_123456789abc.slice", "/kubepods.slice/kubepods-pod0f1e2d3c_aaaa_bbbb_cccc_123456789abc.slice"},
		"none":                {"cgroupfs", "", ""},
		"shared with others":  {"cgroupfs", "/kubepods/burstable", ""},
		"of another pod":      {"cgroupfs", "/kubepods/pod" + uid + "0", ""},
		"of a pod before it ": {"cgroupfs", "/kubepods/pod" + uid + "/more", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newWorld(t).start()
			d.configure(func(cfg *Config) { cfg.CgroupDriver = c.driver })
			config := podConfig("p")
			config.Metadata.UID, config.CgroupParent = uid, c.parent
			pod := d.runPod(config)
			ids := []string{d.create(pod, containerConfig("one")), d.create(pod, containerConfig("two"))}
			for _, id := range ids {
				d.begin(id)
				d.using(d.mustContainer(id).Cgroup, cgroup.Usage{
					CPU: ptr(uint64(10)), Tasks: ptr(uint64(2)), Memory: &MemoryUsage{Current: 100, WorkingSet: 50, RSS: 20, Limit: 500, Faults: 3, MajorFault: 1},
					Swap: &SwapUsage{Current: 5}, CPUPressure: &Pressure{},
				})
			}
			want := uint64(20)
			if c.group != "" {
				d.using(c.group, cgroup.Usage{CPU: ptr(uint64(77)), CPUPressure: &Pressure{}})
				want = 77
			}
			stats, err := d.m.PodStats(pod)
			if err != nil {
				t.Fatal(err)
			}
			if *stats.Usage.CPU != want || len(stats.Containers) != 2 {
				t.Errorf("processors %d, want %d; %d containers", *stats.Usage.CPU, want, len(stats.Containers))
			}
			if c.group == "" && (stats.Usage.Memory.Current != 200 || *stats.Usage.Tasks != 4 || stats.Usage.Swap.Current != 10 || stats.Usage.CPUPressure != nil) {
				t.Errorf("sum %+v, memory %+v", stats.Usage, stats.Usage.Memory)
			}
			if n := stats.Network; n == nil || n.Default == nil || n.Default.RxBytes != 2 || len(n.Others) != 1 || n.Others[0].Name != "net1" {
				t.Errorf("network %+v", n)
			}
			metrics := d.m.Metrics()
			if len(metrics) != 1 || len(metrics[0].Containers) != 2 || metrics[0].Cgroup != c.group || (metrics[0].Detail != nil) != (c.group != "") {
				t.Errorf("metrics %+v", metrics)
			}
			if p := metrics[0].Containers[0].Processes; p == nil || p.Processes != 2 {
				t.Errorf("processes %+v", p)
			}
			if err := d.m.StopPod(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			if _, err := d.m.PodStats(pod); !errors.Is(err, ErrState) {
				t.Errorf("stats of a stopped pod: %v", err)
			}
			if len(d.m.ListPodStats(PodStatsFilter{})) != 0 || len(d.m.Metrics()) != 0 || len(d.m.gauges.byID) != 0 {
				t.Errorf("a stopped pod is measured, %d gauges", len(d.m.gauges.byID))
			}
		})
	}
}

func TestListPodStats(t *testing.T) {
	d := newWorld(t).start()
	a, b := d.runPod(podConfig("a")), d.runPod(podConfig("b"))
	for name, c := range map[string]struct {
		filter PodStatsFilter
		want   []string
	}{
		"all":      {PodStatsFilter{}, []string{a, b}},
		"id":       {PodStatsFilter{ID: b[:16]}, []string{b}},
		"label":    {PodStatsFilter{Labels: map[string]string{"app": "a"}}, []string{a}},
		"no label": {PodStatsFilter{Labels: map[string]string{"app": "c"}}, nil},
		"both":     {PodStatsFilter{ID: b, Labels: map[string]string{"app": "a"}}, nil},
	} {
		var got []string
		for _, s := range d.m.ListPodStats(c.filter) {
			got = append(got, s.Pod.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, wanted %v", name, got, c.want)
		}
	}
	// Without its network's counters a pod is measured all the same.
	d.fail("count", errors.New("no netlink"))
	d.m.gauges.drop(a)
	if got := d.m.ListPodStats(PodStatsFilter{ID: a}); len(got) != 1 || got[0].Network != nil {
		t.Errorf("without counters: %+v", got)
	}
}

// Nothing stays open of what ends while it is measured.
func TestStatsWhileEnding(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("p"))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					d.m.ListPodStats(PodStatsFilter{})
					d.m.Metrics()
				}
			}
		})
	}
	for i := range 10 {
		id := d.create(pod, containerConfig(fmt.Sprint("c", i)))
		d.begin(id)
		if err := d.m.RemoveContainer(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if err := d.m.RemovePod(t.Context(), pod); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	if n := len(d.m.gauges.byID); n != 0 {
		t.Errorf("%d gauges of nothing", n)
	}
	if err := d.m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.m.gauges.of("x", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}
