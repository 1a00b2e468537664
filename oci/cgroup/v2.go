package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// v2Controllers are those that a container's group has, as far as the node does.
var v2Controllers = []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc", "dmem"}

// setUpV2 gives a new group its controllers and limits.
func (l limits) setUpV2(r *specs.LinuxResources) error {
	if err := l.enableControllers(); err != nil {
		return err
	}
	if r == nil {
		return nil
	}
	settings, err := v2Settings(r)
	if err != nil {
		return err
	}
	if err := l.apply(settings); err != nil {
		return err
	}
	return l.setDevicesV2(r.Devices)
}

// enableControllers has every parent of the group give its children all
// controllers, from the root down. Mostly the parent does already.
func (l limits) enableControllers() error {
	wanted := slices.DeleteFunc(slices.Clone(v2Controllers), func(c string) bool { return !slices.Contains(l.tree.hierarchies[0].controllers, c) })
	if missing, err := missingControllers(l.tree.unified, path.Dir(l.path), wanted); err != nil || len(missing) == 0 {
		return err
	}
	var parents []string
	for p := path.Dir(l.path); ; p = path.Dir(p) {
		parents = append(parents, p)
		if p == "/" {
			break
		}
	}
	slices.Reverse(parents)
	for _, p := range parents {
		missing, err := missingControllers(l.tree.unified, p, wanted)
		if err != nil {
			return err
		}
		file := filepath.Join(l.tree.unified, p, "cgroup.subtree_control")
		for _, c := range missing {
			// One by one: the kernel takes all or none of a line.
			err := writeAt(unix.AT_FDCWD, file, "+"+c)
			switch {
			case err == nil:
			case notGranted(err), errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL):
				l.tree.warnOnce("controller "+c, fmt.Errorf("enable it in %s: %w", p, err))
			default:
				return fmt.Errorf("enable controller %s in %s: %w", c, p, err)
			}
		}
	}
	return nil
}

// missingControllers are those of wanted that the group p does not give its children.
func missingControllers(root, p string, wanted []string) ([]string, error) {
	text, err := readAt(unix.AT_FDCWD, filepath.Join(root, p, "cgroup.subtree_control"))
	if err != nil {
		return nil, fmt.Errorf("read controllers of %s: %w", p, err)
	}
	has := strings.Fields(text)
	return slices.DeleteFunc(slices.Clone(wanted), func(c string) bool { return slices.Contains(has, c) }), nil
}

// v2Settings are the settings for r on cgroup v2. Unified values come last, so
// that they win.
func v2Settings(r *specs.LinuxResources) ([]setting, error) {
	out := v2CPU(r.CPU)
	memory, err := v2Memory(r.Memory)
	if err != nil {
		return nil, err
	}
	out = append(out, memory...)
	if r.Pids != nil && r.Pids.Limit != nil {
		out = append(out, setting{"pids", "pids.max", pidsMax(*r.Pids.Limit)})
	}
	for _, h := range r.HugepageLimits {
		// Reservations too, so that a mapping that is too large is refused, and not a process killed when it
		// touches it (Documentation/admin-guide/cgroup-v1/hugetlb.rst, "Reservation accounting").
		out = append(out, setting{"hugetlb", "hugetlb." + h.Pagesize + ".max", utoa(h.Limit)},
			setting{"hugetlb", "hugetlb." + h.Pagesize + ".rsvd.max", utoa(h.Limit)})
	}
	out = append(out, v2BlockIO(r.BlockIO)...)
	for device, limit := range r.Rdma {
		out = append(out, setting{"rdma", "rdma.max", rdmaMax(device, limit)})
	}
	unified, err := v2Unified(r.Unified)
	return append(out, unified...), err
}

func v2CPU(cpu *specs.LinuxCPU) []setting {
	if cpu == nil {
		return nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"cpu", file, value}) }
	if cpu.Idle != nil {
		add("cpu.idle", itoa(*cpu.Idle))
	}
	if cpu.Shares != nil && *cpu.Shares != 0 && (cpu.Idle == nil || *cpu.Idle == 0) {
		add("cpu.weight", utoa(cgroup2.ConvertCPUSharesToCgroupV2Value(*cpu.Shares)))
	}
	switch {
	case cpu.Quota != nil:
		quota := "max"
		if *cpu.Quota > 0 {
			quota = itoa(*cpu.Quota)
		}
		if cpu.Period != nil {
			quota += " " + utoa(*cpu.Period)
		}
		add("cpu.max", quota)
	case cpu.Period != nil:
		add("cpu.max", "max "+utoa(*cpu.Period))
	}
	if cpu.Burst != nil {
		add("cpu.max.burst", utoa(*cpu.Burst))
	}
	return append(out, cpusetSettings(cpu)...)
}

func v2Memory(m *specs.LinuxMemory) ([]setting, error) {
	if m == nil {
		return nil, nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"memory", file, value}) }
	if m.Limit != nil {
		add("memory.max", orMax(*m.Limit))
	}
	if m.Swap != nil {
		swap, err := swapMax(m)
		if err != nil {
			return nil, err
		}
		add("memory.swap.max", swap)
	}
	if m.Reservation != nil {
		add("memory.low", orMax(*m.Reservation))
	}
	return out, nil
}

// swapMax is memory.swap.max, which is swap alone; OCI's value is memory and
// swap together.
func swapMax(m *specs.LinuxMemory) (string, error) {
	switch {
	case *m.Swap < 0:
		return "max", nil
	case m.Limit == nil || *m.Limit < 0:
		return "", fmt.Errorf("%w: a limit of memory and swap together (%d) needs a limit of memory", ErrInvalidLimit, *m.Swap)
	case *m.Swap < *m.Limit:
		return "", fmt.Errorf("%w: memory and swap together (%d) below memory (%d)", ErrInvalidLimit, *m.Swap, *m.Limit)
	default:
		return itoa(*m.Swap - *m.Limit), nil
	}
}

// orMax is a limit as v2 writes it; OCI's -1 is no limit.
func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return itoa(n)
}

func v2BlockIO(b *specs.LinuxBlockIO) []setting {
	if b == nil {
		return nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"io", file, value}) }
	if b.Weight != nil {
		add("io.weight", "default "+utoa(ioWeight(*b.Weight)))
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			add("io.weight", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, ioWeight(*d.Weight)))
		}
	}
	for _, list := range []struct {
		key     string
		devices []specs.LinuxThrottleDevice
	}{{"rbps", b.ThrottleReadBpsDevice}, {"wbps", b.ThrottleWriteBpsDevice}, {"riops", b.ThrottleReadIOPSDevice}, {"wiops", b.ThrottleWriteIOPSDevice}} {
		for _, d := range list.devices {
			add("io.max", fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, list.key, d.Rate))
		}
	}
	return out
}

// ioWeight turns blkio's weights, 10 to 1000, into io's, 1 to 10000, as runc does.
func ioWeight(weight uint16) uint64 {
	if weight < 10 {
		return 1
	}
	return 1 + (uint64(weight)-10)*9999/990
}

// v2Unified are values by file name, in a fixed order.
func v2Unified(unified map[string]string) ([]setting, error) {
	var out []setting
	for _, file := range slices.Sorted(maps.Keys(unified)) {
		controller, _, ok := strings.Cut(file, ".")
		if !ok || strings.ContainsAny(file, "/\x00") {
			return nil, fmt.Errorf("%w: unified %q is no cgroup file", ErrInvalidLimit, file)
		}
		for line := range strings.SplitSeq(strings.TrimSpace(unified[file]), "\n") {
			// The kernel takes one line a write (io.max of several devices).
			out = append(out, setting{controller, file, line})
		}
	}
	return out, nil
}

// checkUsage refuses a memory limit below what is in use: on v2 the kernel would
// take it, and kill.
func (l limits) checkUsage(m *specs.LinuxMemory) error {
	if m == nil || m.Limit == nil || *m.Limit < 0 {
		return nil
	}
	dir := dirCache{group: l.Group, fds: map[string]int{}}
	defer dir.close()
	fd, err := dir.open("memory")
	if err != nil {
		return err
	}
	text, err := readAt(fd, "memory.current")
	if err != nil {
		return nil // no memory controller here, which apply reports
	}
	if current, err := strconv.ParseInt(text, 10, 64); err == nil && current > *m.Limit {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrBelowUsage, current, *m.Limit)
	}
	return nil
}

// withQuota is r with the group's present quota where r has a period alone:
// cpu.max takes a period only behind a quota.
func (l limits) withQuota(r *specs.LinuxResources) *specs.LinuxResources {
	if r.CPU == nil || r.CPU.Period == nil || r.CPU.Quota != nil {
		return r
	}
	dir := dirCache{group: l.Group, fds: map[string]int{}}
	defer dir.close()
	fd, err := dir.open("cpu")
	if err != nil {
		return r
	}
	text, err := readAt(fd, "cpu.max")
	if err != nil {
		return r
	}
	first, _, _ := strings.Cut(text, " ")
	quota, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return r // "max": none
	}
	cpu := *r.CPU
	cpu.Quota = &quota
	out := *r
	out.CPU = &cpu
	return &out
}
