package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// lines writes settings as text.
func lines(settings []setting) []string {
	var out []string
	for _, s := range settings {
		out = append(out, fmt.Sprintf("%s: %s = %s", s.controller, s.file, s.value))
	}
	return out
}

// everything has each limit that there is.
func everything() *specs.LinuxResources {
	device := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	throttle := func(rate uint64) []specs.LinuxThrottleDevice {
		return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: device, Rate: rate}}
	}
	return &specs.LinuxResources{
		CPU: &specs.LinuxCPU{
			Shares: ptr(uint64(1024)), Quota: ptr(int64(-1)), Period: ptr(uint64(50000)), Burst: ptr(uint64(7)), Cpus: "0-1", Mems: "0",
			RealtimePeriod: ptr(uint64(1)), RealtimeRuntime: ptr(int64(2)),
		},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(100)), Swap: ptr(int64(150)), Reservation: ptr(int64(50)), Swappiness: ptr(uint64(10)), DisableOOMKiller: ptr(true)},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(0))},
		BlockIO: &specs.LinuxBlockIO{
			Weight: ptr(uint16(500)), WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: device, Weight: ptr(uint16(10))}},
			ThrottleReadBpsDevice: throttle(1), ThrottleWriteBpsDevice: throttle(2), ThrottleReadIOPSDevice: throttle(3), ThrottleWriteIOPSDevice: throttle(4),
		},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 0}},
		Network:        &specs.LinuxNetwork{ClassID: ptr(uint32(5)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 6}}},
		Rdma:           map[string]specs.LinuxRdma{"mlx": {HcaHandles: ptr(uint32(1)), HcaObjects: ptr(uint32(2))}},
		Unified:        map[string]string{"memory.oom.group": "1", "io.max": "8:0 rbps=1\n8:16 rbps=2\n"},
	}
}

func TestV1Settings(t *testing.T) {
	got, err := v1Settings(everything(), unlimited)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"cpu: cpu.shares = 1024", "cpu: cpu.cfs_period_us = 50000", "cpu: cpu.cfs_quota_us = -1", "cpu: cpu.cfs_burst_us = 7",
		"cpu: cpu.rt_period_us = 1", "cpu: cpu.rt_runtime_us = 2", "cpuset: cpuset.cpus = 0-1", "cpuset: cpuset.mems = 0",
		"memory: memory.limit_in_bytes = 100", "memory: memory.memsw.limit_in_bytes = 150", "memory: memory.soft_limit_in_bytes = 50",
		"memory: memory.swappiness = 10", "memory: memory.oom_control = 1", "pids: pids.max = max", "hugetlb: hugetlb.2MB.limit_in_bytes = 0", "hugetlb: hugetlb.2MB.rsvd.limit_in_bytes = 0",
		"blkio: blkio.bfq.weight = 500", "blkio: blkio.bfq.weight_device = 8:16 10", "blkio: blkio.throttle.read_bps_device = 8:16 1",
		"blkio: blkio.throttle.write_bps_device = 8:16 2", "blkio: blkio.throttle.read_iops_device = 8:16 3", "blkio: blkio.throttle.write_iops_device = 8:16 4",
		"rdma: rdma.max = mlx hca_handle=1 hca_object=2", "net_cls: net_cls.classid = 5", "net_prio: net_prio.ifpriomap = eth0 6",
	}
	if !slices.Equal(lines(got), want) {
		t.Errorf("settings are\n%q, want\n%q", lines(got), want)
	}
}

func TestV2Settings(t *testing.T) {
	got, err := v2Settings(everything())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"cpu: cpu.weight = 100", "cpu: cpu.max = max 50000", "cpu: cpu.max.burst = 7", "cpuset: cpuset.cpus = 0-1", "cpuset: cpuset.mems = 0",
		"memory: memory.max = 100", "memory: memory.swap.max = 50", "memory: memory.low = 50", "pids: pids.max = max", "hugetlb: hugetlb.2MB.max = 0", "hugetlb: hugetlb.2MB.rsvd.max = 0",
		"io: io.weight = default 4950", "io: io.weight = 8:16 1", "io: io.max = 8:16 rbps=1", "io: io.max = 8:16 wbps=2", "io: io.max = 8:16 riops=3",
		"io: io.max = 8:16 wiops=4", "rdma: rdma.max = mlx hca_handle=1 hca_object=2",
		"io: io.max = 8:0 rbps=1", "io: io.max = 8:16 rbps=2", "memory: memory.oom.group = 1",
	}
	if !slices.Equal(lines(got), want) {
		t.Errorf("settings are\n%q, want\n%q", lines(got), want)
	}
}

func TestNoSettings(t *testing.T) {
	one, err := v1Settings(&specs.LinuxResources{}, 5)
	two, err2 := v2Settings(&specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}, Pids: &specs.LinuxPids{}, BlockIO: &specs.LinuxBlockIO{}})
	if len(one)+len(two) != 0 || err != nil || err2 != nil {
		t.Errorf("%q %v, %q %v", lines(one), err, lines(two), err2)
	}
}

// TestV1MemoryOrder: memory and swap together may never be below memory, not for
// a moment.
func TestV1MemoryOrder(t *testing.T) {
	for _, c := range []struct {
		limit, swap, present int64
		swapFirst            bool
	}{
		{100, 200, 150, true}, {100, 120, 150, false}, {100, 150, 150, false}, {-1, -1, 150, true}, {100, 100, unlimited, false},
	} {
		got := v1Memory(&specs.LinuxMemory{Limit: &c.limit, Swap: &c.swap}, c.present)
		if first := got[0].file == "memory.memsw.limit_in_bytes"; len(got) != 2 || first != c.swapFirst {
			t.Errorf("%+v: %q", c, lines(got))
		}
	}
}

func TestV2CPU(t *testing.T) {
	for _, c := range []struct {
		cpu  specs.LinuxCPU
		want []string
	}{
		// The conversion of runc 1.3 and crun: 1024 shares are weight 100, not 39.
		{specs.LinuxCPU{Shares: ptr(uint64(2))}, []string{"cpu: cpu.weight = 1"}},
		{specs.LinuxCPU{Shares: ptr(uint64(1024))}, []string{"cpu: cpu.weight = 100"}},
		{specs.LinuxCPU{Shares: ptr(uint64(262144))}, []string{"cpu: cpu.weight = 10000"}},
		{specs.LinuxCPU{Shares: ptr(uint64(0))}, nil},
		{specs.LinuxCPU{Shares: ptr(uint64(2)), Idle: ptr(int64(1))}, []string{"cpu: cpu.idle = 1"}},
		{specs.LinuxCPU{Quota: ptr(int64(1000))}, []string{"cpu: cpu.max = 1000"}},
		{specs.LinuxCPU{Quota: ptr(int64(1000)), Period: ptr(uint64(9))}, []string{"cpu: cpu.max = 1000 9"}},
		{specs.LinuxCPU{Quota: ptr(int64(0)), Period: ptr(uint64(9))}, []string{"cpu: cpu.max = max 9"}},
		{specs.LinuxCPU{Period: ptr(uint64(9))}, []string{"cpu: cpu.max = max 9"}},
	} {
		if got := lines(v2CPU(&c.cpu)); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.cpu, got, c.want)
		}
	}
}

func TestV2Swap(t *testing.T) {
	for _, c := range []struct {
		limit *int64
		swap  int64
		want  string // "": refused
	}{
		{ptr(int64(100)), 100, "0"}, {ptr(int64(100)), 130, "30"}, {ptr(int64(100)), -1, "max"}, {nil, -1, "max"}, {ptr(int64(-1)), -1, "max"},
		{ptr(int64(100)), 99, ""}, {nil, 100, ""}, {ptr(int64(-1)), 100, ""},
	} {
		got, err := swapMax(&specs.LinuxMemory{Limit: c.limit, Swap: &c.swap})
		if got != c.want || (c.want == "") != errors.Is(err, ErrInvalidLimit) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestUnifiedBad(t *testing.T) {
	for _, file := range []string{"../x.y", "memory", "a/b.c", "a.b\x00"} {
		if _, err := v2Settings(&specs.LinuxResources{Unified: map[string]string{file: "1"}}); !errors.Is(err, ErrInvalidLimit) {
			t.Errorf("%q: error is %v", file, err)
		}
	}
}

func TestOOMKills(t *testing.T) {
	for text, want := range map[string]bool{
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 0\noom_group_kill 0": false,
		"oom 1\noom_kill 1":                            true,
		"oom_kill 0\noom_group_kill 2":                 true,
		"oom_kill_disable 1\nunder_oom 1\noom_kill 0":  false,
		"oom_kill_disable 0\nunder_oom 0\noom_kill 10": true,
		"": false,
	} {
		if got := oomKills(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestDeviceText(t *testing.T) {
	for want, rule := range map[string]specs.LinuxDeviceCgroup{
		"a *:* rwm":  {},
		"c 1:3 r":    {Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(3)), Access: "r"},
		"b 8:* rwm":  {Type: "b", Major: ptr(int64(8)), Minor: ptr(int64(-1))},
		"c 136:* rw": {Type: "c", Major: ptr(int64(136)), Access: "rw"},
	} {
		if got := deviceText(rule); got != want {
			t.Errorf("%+v: %q, want %q", rule, got, want)
		}
	}
}
