package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Detail is what few ask for of a group, with all below it, at one moment. What the node doesn't count is nil.
type Detail struct {
	At        time.Time
	CPU       *CPUDetail
	Memory    *MemoryDetail
	Hugepages []HugepageUsage
	Disks     []DiskUsage // by device number
	MaxTasks  *uint64     // the limit of threads; 0: none
}

// CPUDetail is of processors, since the group was made. Times are in nanoseconds.
type CPUDetail struct {
	User, System  uint64
	Periods       uint64 // of the quota that passed
	Throttled     uint64 // those in which the quota was used up
	ThrottledTime uint64
}

// MemoryDetail is in bytes, and in events since the group was made.
type MemoryDetail struct {
	Cache, MappedFile, Kernel  uint64
	Peak                       *uint64 // nil on cgroup v2 before Linux 5.19
	LimitHits                  uint64  // how often the limit was reached
	OOMKills                   uint64
	OwnFaults, OwnMajorFaults  uint64 // without the groups below; on v2 the kernel doesn't tell them apart
	Faults, MajorFaults        uint64
	Reservation                uint64 // 0: none
	MemoryAndSwap, MemoryLimit uint64 // 0: none
}

// HugepageUsage is of one page size.
type HugepageUsage struct {
	PageSize string // "2MB"
	Current  uint64
	Peak     *uint64 // nil on v2, which doesn't note it
}

// DiskUsage is of one block device.
type DiskUsage struct {
	Major, Minor                        uint32
	ReadBytes, WriteBytes, DiscardBytes uint64
	ReadOperations, WriteOperations     uint64
}

// Detail reads it now. Its files are opened for it. The error is ErrGone, ErrInvalidPath or the kernel's.
func (m *Meter) Detail() (*Detail, error) {
	if _, err := cleanPath(m.group.path); err != nil {
		return nil, err
	}
	g := m.group
	out := &Detail{At: time.Now()}
	var err error
	if g.tree.mode == V2 {
		err = details{g}.detailV2(out)
	} else {
		err = details{g}.detailV1(out)
	}
	if !g.Exists() { // asked last: it may go meanwhile, and its files are missing then as those are that a node doesn't have
		err = ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("read details of cgroup %s: %w", g.path, err)
	}
	return out, nil
}

// details reads what a group has files for.
type details struct{ *Group }

// content reads a file of the group in the hierarchy mounted at root, "" when there is none.
func (g details) content(root, name string) (string, error) {
	if root == "" {
		return "", nil
	}
	text, err := readAt(unix.AT_FDCWD, filepath.Join(root, g.path, name))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return "", nil
	}
	return text, err
}

// table is content as numbers by their keys; nil when there is no such file.
func (g details) table(root, name string) (map[string]uint64, error) {
	text, err := g.content(root, name)
	if err != nil || text == "" {
		return nil, err
	}
	out := map[string]uint64{}
	fields([]byte(text), func(key []byte, n uint64) { out[string(key)] = n })
	return out, nil
}

// value is content as one number, nil when there is none.
func (g details) value(root, name string) (*uint64, error) {
	text, err := g.content(root, name)
	return parseNumber([]byte(text)), err
}

// limit is value as a limit, 0 when it limits nothing.
func (g details) limit(root, name string) (uint64, error) {
	n, err := g.value(root, name)
	if err != nil || n == nil || noLimit(*n) {
		return 0, err
	}
	return *n, nil
}

func (g details) detailV2(out *Detail) error {
	root := g.tree.unified
	cpu, err1 := g.table(root, "cpu.stat")
	if cpu != nil {
		out.CPU = &CPUDetail{
			User: cpu["user_usec"] * 1000, System: cpu["system_usec"] * 1000,
			Periods: cpu["nr_periods"], Throttled: cpu["nr_throttled"], ThrottledTime: cpu["throttled_usec"] * 1000,
		}
	}
	mem, err2 := g.table(root, "memory.stat")
	events, err3 := g.table(root, "memory.events")
	if mem != nil {
		kernel, known := mem["kernel"] // Linux 5.18
		if !known {
			kernel = mem["kernel_stack"] + mem["slab"] + mem["pagetables"] + mem["percpu"]
		}
		out.Memory = &MemoryDetail{
			Cache: mem["file"], MappedFile: mem["file_mapped"], Kernel: kernel, LimitHits: events["max"], OOMKills: events["oom_kill"],
			OwnFaults: mem["pgfault"], OwnMajorFaults: mem["pgmajfault"], Faults: mem["pgfault"], MajorFaults: mem["pgmajfault"],
		}
	}
	io, err4 := g.content(root, "io.stat")
	out.Disks = parseIOStat(io)
	errs := []error{err1, err2, err3, err4, g.hugepages(root, out, ".current", ".peak")}
	if out.Memory != nil {
		var errPeak, errLimit, errSwap, errReserved error
		out.Memory.Peak, errPeak = g.value(root, "memory.peak")
		out.Memory.MemoryLimit, errLimit = g.limit(root, "memory.max")
		swap, errSwap := g.value(root, "memory.swap.max")
		if swap != nil && !noLimit(*swap) && out.Memory.MemoryLimit > 0 {
			out.Memory.MemoryAndSwap = out.Memory.MemoryLimit + *swap
		}
		out.Memory.Reservation, errReserved = g.limit(root, "memory.low")
		errs = append(errs, errPeak, errLimit, errSwap, errReserved)
	}
	return errors.Join(append(errs, g.maxTasks(root, out))...)
}

func (g details) detailV1(out *Detail) error {
	tree := g.tree
	acct, err1 := g.table(tree.controllerDir("cpuacct"), "cpuacct.stat")
	cpu, err2 := g.table(tree.controllerDir("cpu"), "cpu.stat")
	if acct != nil {
		out.CPU = &CPUDetail{
			User: acct["user"] * tick, System: acct["system"] * tick,
			Periods: cpu["nr_periods"], Throttled: cpu["nr_throttled"], ThrottledTime: cpu["throttled_time"],
		}
	}
	root := tree.controllerDir("memory")
	mem, err3 := g.table(root, "memory.stat")
	errs := []error{err1, err2, err3}
	if mem != nil {
		out.Memory = &MemoryDetail{
			Cache: mem["total_cache"], MappedFile: mem["total_mapped_file"],
			OwnFaults: mem["pgfault"], OwnMajorFaults: mem["pgmajfault"], Faults: mem["total_pgfault"], MajorFaults: mem["total_pgmajfault"],
		}
		errs = append(errs, g.memoryV1(root, out.Memory))
	}
	dir := tree.controllerDir("blkio")
	bytes, err4 := g.content(dir, "blkio.throttle.io_service_bytes_recursive")
	operations, err5 := g.content(dir, "blkio.throttle.io_serviced_recursive")
	out.Disks = parseBlkio(bytes, operations)
	errs = append(errs, err4, err5, g.hugepages(tree.controllerDir("hugetlb"), out, ".usage_in_bytes", ".max_usage_in_bytes"))
	return errors.Join(append(errs, g.maxTasks(tree.controllerDir("pids"), out))...)
}

// tick is the unit of cpuacct.stat in nanoseconds: USER_HZ is 100 on everything that Go runs on.
const tick = uint64(time.Second / 100)

// memoryV1 reads the files of one number.
func (g details) memoryV1(root string, out *MemoryDetail) error {
	var errs []error
	read := func(name string) uint64 {
		n, err := g.value(root, name)
		errs = append(errs, err)
		if n == nil {
			return 0
		}
		return *n
	}
	out.Kernel = read("memory.kmem.usage_in_bytes")
	peak := read("memory.max_usage_in_bytes")
	out.Peak = &peak
	out.LimitHits = read("memory.failcnt")
	oom, err := g.table(root, "memory.oom_control")
	out.OOMKills = oom["oom_kill"]
	errs = append(errs, err)
	for name, to := range map[string]*uint64{
		"memory.limit_in_bytes": &out.MemoryLimit, "memory.memsw.limit_in_bytes": &out.MemoryAndSwap, "memory.soft_limit_in_bytes": &out.Reservation,
	} {
		*to, err = g.limit(root, name)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (g details) maxTasks(root string, out *Detail) error {
	n, err := g.value(root, "pids.max")
	if n != nil && *n == math.MaxUint64 {
		*n = 0
	}
	out.MaxTasks = n
	return err
}

// hugepages reads "hugetlb.2MB.current" and the like: a node has the sizes of its processors.
func (g details) hugepages(root string, out *Detail, current, peak string) error {
	if root == "" {
		return nil
	}
	var errs []error
	for _, size := range pageSizes() {
		n, err := g.value(root, "hugetlb."+size+current)
		if n == nil {
			errs = append(errs, err)
			continue
		}
		most, peakErr := g.value(root, "hugetlb."+size+peak)
		out.Hugepages = append(out.Hugepages, HugepageUsage{PageSize: size, Current: *n, Peak: most})
		errs = append(errs, err, peakErr)
	}
	return errors.Join(errs...)
}

// pageSizes are named as in hugetlb's files: from /sys/kernel/mm/hugepages/hugepages-2048kB.
func pageSizes() []string {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil // a kernel without
	}
	var out []string
	for _, e := range entries {
		number, _ := strings.CutPrefix(strings.TrimSuffix(e.Name(), "kB"), "hugepages-")
		kb, err := strconv.ParseUint(number, 10, 64)
		switch {
		case err != nil:
		case kb >= 1<<20:
			out = append(out, fmt.Sprintf("%dGB", kb>>20))
		case kb >= 1<<10:
			out = append(out, fmt.Sprintf("%dMB", kb>>10))
		default:
			out = append(out, fmt.Sprintf("%dKB", kb))
		}
	}
	return out
}

// parseDevice reads "8:16".
func parseDevice(text string) (major, minor uint32, ok bool) {
	a, b, found := strings.Cut(text, ":")
	x, err1 := strconv.ParseUint(a, 10, 32)
	y, err2 := strconv.ParseUint(b, 10, 32)
	return uint32(x), uint32(y), found && err1 == nil && err2 == nil
}

// parseIOStat reads lines as "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6" (cgroup-v2.rst, io.stat).
func parseIOStat(text string) []DiskUsage {
	var out []DiskUsage
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		major, minor, ok := parseDevice(words[0])
		if !ok {
			continue
		}
		d := DiskUsage{Major: major, Minor: minor}
		for _, word := range words[1:] {
			key, value, _ := strings.Cut(word, "=")
			n, _ := strconv.ParseUint(value, 10, 64)
			d.set(key, n)
		}
		out = append(out, d)
	}
	return sorted(out)
}

// set is by the names of io.stat; others are passed over.
func (d *DiskUsage) set(key string, n uint64) {
	switch key {
	case "rbytes":
		d.ReadBytes = n
	case "wbytes":
		d.WriteBytes = n
	case "dbytes":
		d.DiscardBytes = n
	case "rios":
		d.ReadOperations = n
	case "wios":
		d.WriteOperations = n
	}
}

// parseBlkio reads lines as "8:0 Read 4096" of the files of bytes and of operations.
func parseBlkio(bytesText, operationsText string) []DiskUsage {
	byDevice := map[[2]uint32]DiskUsage{}
	operations := map[string]string{"Read": "r", "Write": "w", "Discard": "d"}
	for unit, text := range map[string]string{"bytes": bytesText, "ios": operationsText} {
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			if len(words) != 3 {
				continue
			}
			major, minor, ok := parseDevice(words[0])
			n, err := strconv.ParseUint(words[2], 10, 64)
			if !ok || err != nil {
				continue
			}
			d := byDevice[[2]uint32{major, minor}]
			d.Major, d.Minor = major, minor
			d.set(operations[words[1]]+unit, n)
			byDevice[[2]uint32{major, minor}] = d
		}
	}
	return sorted(slices.Collect(maps.Values(byDevice)))
}

func sorted(disks []DiskUsage) []DiskUsage {
	slices.SortFunc(disks, func(a, b DiskUsage) int { return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor)) })
	return disks
}
