package cgroup

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setUpV1 gives a new group its limits.
func (l limits) setUpV1(r *specs.LinuxResources) error {
	if err := l.initCpuset(r); err != nil {
		return err
	}
	if r == nil {
		return nil
	}
	settings, err := v1Settings(r, unlimited)
	if err != nil {
		return err
	}
	if err := l.apply(settings); err != nil {
		return err
	}
	if len(r.Unified) > 0 {
		l.tree.warnOnce("unified", errUnified)
	}
	return l.setDevicesV1(r.Devices)
}

var errUnified = errors.New("limits by the names of cgroup v2 files need cgroup v2")

// unlimited is a limit that bounds nothing.
const unlimited = math.MaxInt64

// v1Settings are the settings for r on cgroup v1. memsw is the group's present
// limit of memory and swap together, which never may be below that of memory:
// when it rises, it has to be written first.
func v1Settings(r *specs.LinuxResources, memsw int64) ([]setting, error) {
	out := v1CPU(r.CPU)
	out = append(out, v1Memory(r.Memory, memsw)...)
	if r.Pids != nil && r.Pids.Limit != nil {
		out = append(out, setting{"pids", "pids.max", pidsMax(*r.Pids.Limit)})
	}
	for _, h := range r.HugepageLimits {
		out = append(out, setting{"hugetlb", "hugetlb." + h.Pagesize + ".limit_in_bytes", utoa(h.Limit)},
			setting{"hugetlb", "hugetlb." + h.Pagesize + ".rsvd.limit_in_bytes", utoa(h.Limit)}) // see v2Settings
	}
	out = append(out, v1BlockIO(r.BlockIO)...)
	for device, limit := range r.Rdma {
		out = append(out, setting{"rdma", "rdma.max", rdmaMax(device, limit)})
	}
	return append(out, v1Network(r.Network)...), nil
}

func v1CPU(cpu *specs.LinuxCPU) []setting {
	if cpu == nil {
		return nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"cpu", file, value}) }
	if cpu.Shares != nil {
		add("cpu.shares", utoa(*cpu.Shares))
	}
	// A new quota over the old period may be more than the parent has: period first.
	if cpu.Period != nil {
		add("cpu.cfs_period_us", utoa(*cpu.Period))
	}
	if cpu.Quota != nil {
		add("cpu.cfs_quota_us", itoa(*cpu.Quota))
	}
	if cpu.Burst != nil {
		add("cpu.cfs_burst_us", utoa(*cpu.Burst))
	}
	if cpu.RealtimePeriod != nil {
		add("cpu.rt_period_us", utoa(*cpu.RealtimePeriod))
	}
	if cpu.RealtimeRuntime != nil {
		add("cpu.rt_runtime_us", itoa(*cpu.RealtimeRuntime))
	}
	if cpu.Idle != nil {
		add("cpu.idle", itoa(*cpu.Idle))
	}
	return append(out, cpusetSettings(cpu)...)
}

// cpusetSettings are the same on v1 and v2.
func cpusetSettings(cpu *specs.LinuxCPU) []setting {
	var out []setting
	if cpu.Cpus != "" {
		out = append(out, setting{"cpuset", "cpuset.cpus", cpu.Cpus})
	}
	if cpu.Mems != "" {
		out = append(out, setting{"cpuset", "cpuset.mems", cpu.Mems})
	}
	return out
}

func v1Memory(m *specs.LinuxMemory, memsw int64) []setting {
	if m == nil {
		return nil
	}
	var out []setting
	if m.Limit != nil {
		out = append(out, setting{"memory", "memory.limit_in_bytes", itoa(*m.Limit)})
	}
	if m.Swap != nil {
		s := setting{"memory", "memory.memsw.limit_in_bytes", itoa(*m.Swap)}
		if *m.Swap < 0 || *m.Swap > memsw {
			out = slices.Insert(out, 0, s)
		} else {
			out = append(out, s)
		}
	}
	if m.Reservation != nil {
		out = append(out, setting{"memory", "memory.soft_limit_in_bytes", itoa(*m.Reservation)})
	}
	if m.Swappiness != nil {
		out = append(out, setting{"memory", "memory.swappiness", utoa(*m.Swappiness)})
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		out = append(out, setting{"memory", "memory.oom_control", "1"})
	}
	return out
}

// currentMemsw is the group's limit of memory and swap together.
func (l limits) currentMemsw() int64 {
	dir := dirCache{group: l.Group, fds: map[string]int{}}
	defer dir.close()
	fd, err := dir.open("memory")
	if err != nil {
		return unlimited
	}
	text, err := readAt(fd, "memory.memsw.limit_in_bytes")
	if err != nil {
		return unlimited
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return unlimited
	}
	return n
}

// pidsMax is the content of pids.max; OCI's values below 1 mean no limit.
func pidsMax(limit int64) string {
	if limit <= 0 {
		return "max"
	}
	return itoa(limit)
}

func v1BlockIO(b *specs.LinuxBlockIO) []setting {
	if b == nil {
		return nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"blkio", file, value}) }
	if b.Weight != nil {
		add("blkio.bfq.weight", utoa(uint64(*b.Weight)))
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			add("blkio.bfq.weight_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight))
		}
	}
	for _, list := range []struct {
		file    string
		devices []specs.LinuxThrottleDevice
	}{
		{"blkio.throttle.read_bps_device", b.ThrottleReadBpsDevice},
		{"blkio.throttle.write_bps_device", b.ThrottleWriteBpsDevice},
		{"blkio.throttle.read_iops_device", b.ThrottleReadIOPSDevice},
		{"blkio.throttle.write_iops_device", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range list.devices {
			add(list.file, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate))
		}
	}
	return out
}

func v1Network(n *specs.LinuxNetwork) []setting {
	if n == nil {
		return nil
	}
	var out []setting
	if n.ClassID != nil {
		out = append(out, setting{"net_cls", "net_cls.classid", utoa(uint64(*n.ClassID))})
	}
	for _, p := range n.Priorities {
		out = append(out, setting{"net_prio", "net_prio.ifpriomap", p.Name + " " + utoa(uint64(p.Priority))})
	}
	return out
}

// rdmaMax is a line of rdma.max, which is the same on v1 and v2.
func rdmaMax(device string, limit specs.LinuxRdma) string {
	line := device
	if limit.HcaHandles != nil {
		line += " hca_handle=" + utoa(uint64(*limit.HcaHandles))
	}
	if limit.HcaObjects != nil {
		line += " hca_object=" + utoa(uint64(*limit.HcaObjects))
	}
	return line
}

// initCpuset gives a new group the CPUs and memory nodes of its parent: on v1 a
// group without any takes no process (cpusets(7)). Parents that were made
// without get theirs too.
func (l limits) initCpuset(r *specs.LinuxResources) error {
	root := l.tree.controllerDir("cpuset")
	if root == "" {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if r != nil && r.CPU != nil && (file == "cpuset.cpus" && r.CPU.Cpus != "" || file == "cpuset.mems" && r.CPU.Mems != "") {
			if _, err := inheritCpuset(root, path.Dir(l.path), file); err != nil {
				return err
			}
			continue
		}
		if _, err := inheritCpuset(root, l.path, file); err != nil {
			return err
		}
	}
	return nil
}

// inheritCpuset gives the value of a cpuset file of the group p, after copying it from
// the parent when it is empty.
func inheritCpuset(root, p, file string) (string, error) {
	name := root + path.Join(p, file)
	value, err := readAt(unix.AT_FDCWD, name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if value != "" || p == "/" {
		return value, nil
	}
	if value, err = inheritCpuset(root, path.Dir(p), file); err != nil {
		return "", err
	}
	if err := writeAt(unix.AT_FDCWD, name, value); err != nil {
		return "", fmt.Errorf("write %q to %s: %w", value, name, err)
	}
	return value, nil
}

// setDevicesV1 writes the device rules in order, to two files that stay open.
func (l limits) setDevicesV1(rules []specs.LinuxDeviceCgroup) error {
	if len(rules) == 0 {
		return nil
	}
	dir := dirCache{group: l.Group, fds: map[string]int{}}
	defer dir.close()
	fd, err := dir.open("devices")
	if err != nil {
		if notGranted(err) {
			l.tree.warnOnce("devices", err)
			return nil
		}
		return err
	}
	files := map[bool]int{}
	for allow, name := range map[bool]string{true: "devices.allow", false: "devices.deny"} {
		file, err := openAt(fd, name, unix.O_WRONLY)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		defer unix.Close(file)
		files[allow] = file
	}
	for _, rule := range rules {
		err := writeFD(files[rule.Allow], deviceText(rule))
		switch {
		case err == nil:
		case notGranted(err):
			l.tree.warnOnce("devices", err)
		default:
			return fmt.Errorf("write device rule %q: %w", deviceText(rule), err)
		}
	}
	return nil
}

// deviceText is a rule as devices.allow takes it.
func deviceText(rule specs.LinuxDeviceCgroup) string {
	kind, access := rule.Type, rule.Access
	if kind == "" {
		kind = "a"
	}
	if access == "" {
		access = "rwm"
	}
	return kind + " " + deviceNumber(rule.Major) + ":" + deviceNumber(rule.Minor) + " " + access
}

func deviceNumber(n *int64) string {
	if n == nil || *n < 0 {
		return "*"
	}
	return itoa(*n)
}
