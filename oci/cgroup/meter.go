package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that a group is not there (any more).
var ErrGone = errors.New("the cgroup is gone")

// Usage is what a group used, with all below it, at one moment. What the node doesn't count is nil.
type Usage struct {
	At     time.Time
	CPU    *uint64 // nanoseconds of processors, since the group was made
	Memory *MemoryUsage
	Swap   *SwapUsage
	Tasks  *uint64 // threads there are now: what a limit of processes counts
	// Pressure is what tasks waited for (Linux 4.20; on v1 only where a cgroup2 stands beside it).
	CPUPressure, MemoryPressure, IOPressure *Pressure
}

// MemoryUsage is in bytes.
type MemoryUsage struct {
	Current    uint64
	WorkingSet uint64 // what is in use, less the part of the page cache that wasn't used lately
	RSS        uint64 // anonymous memory
	Limit      uint64 // the group's own; 0: none
	Faults     uint64 // page faults, minor and major, since the group was made
	MajorFault uint64 // those that had to read from a disk
}

// SwapUsage is in bytes.
type SwapUsage struct {
	Current uint64
	Limit   *uint64 // nil: none
}

// Pressure is one file of pressure stall information (Documentation/accounting/psi.rst): how long some, or all
// tasks, of the group waited.
type Pressure struct{ Some, Full Stall }

// Stall is in percent of the last seconds, and nanoseconds in total.
type Stall struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

// heldFiles are how many files all meters of a tree may hold open, and do.
type heldFiles struct {
	once sync.Once
	most int64
	now  atomic.Int64
}

// mostHeld bounds them whatever the limit: 150 MB of the kernel's memory.
const mostHeld = 32 << 10

// take says whether one more may be held; give it back.
func (h *heldFiles) take() bool {
	h.once.Do(func() {
		h.most = mostHeld
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur/4 < mostHeld {
			h.most = int64(limit.Cur / 4) // the rest is for what can't do without
		}
	})
	if h.now.Add(1) <= h.most {
		return true
	}
	h.now.Add(-1)
	return false
}

func (h *heldFiles) give() { h.now.Add(-1) }

// Meter reads what a group uses. It holds the files open that are read often (4.5 KB of the kernel's memory each, but a
// third of the time), and opens the others at each reading, as it does with all when many are held. It is safe for
// concurrent use; Close it.
type Meter struct {
	group  *Group
	mu     sync.Mutex
	held   map[string]int // file → descriptor; absent when the node has no such file
	closed bool
}

// absent marks a file that the node doesn't have.
const absent = -1

// Meter gives the group's. Nothing is opened before it is read.
func (g *Group) Meter() *Meter { return &Meter{group: g, held: map[string]int{}} }

// Close closes the files. It may be called twice; what is read afterwards is ErrGone.
func (m *Meter) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for name, fd := range m.held {
		if fd != absent {
			_ = unix.Close(fd)
			m.group.tree.held.give()
		}
		delete(m.held, name)
	}
}

// buffers are what files are read into. The longest, memory.stat, has some 2 KiB.
var buffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// Usage reads what the group uses now. The error is ErrGone, ErrInvalidPath or the kernel's.
func (m *Meter) Usage() (*Usage, error) {
	if _, err := cleanPath(m.group.path); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	buf := buffers.Get().(*[16 << 10]byte)
	defer buffers.Put(buf)
	r := &reading{meter: m, buf: buf[:]}
	out := &Usage{At: time.Now()}
	if m.group.tree.mode == V2 {
		r.usageV2(out)
	} else {
		r.usageV1(out)
	}
	unified := m.group.tree.unified
	out.CPUPressure = parsePressure(r.text(unified, "cpu.pressure"))
	out.MemoryPressure = parsePressure(r.text(unified, "memory.pressure"))
	out.IOPressure = parsePressure(r.text(unified, "io.pressure"))
	if r.err != nil {
		return nil, fmt.Errorf("read usage of cgroup %s: %w", m.group.path, r.err)
	}
	return out, nil
}

// reading is one round through a meter's files. Its first error ends it: nothing is read afterwards.
type reading struct {
	meter *Meter
	buf   []byte
	err   error
}

// text reads a held file of the hierarchy mounted at root, which may be "". It is good until the next call; nil: there
// is no such file.
func (r *reading) text(root, name string) []byte {
	if r.err != nil || root == "" {
		return nil
	}
	if r.meter.closed {
		r.err = ErrGone
		return nil
	}
	fd, known := r.meter.held[name]
	if !known {
		fd = r.open(root, name)
		if r.err != nil {
			return nil
		}
		if fd == absent || r.meter.group.tree.held.take() {
			r.meter.held[name] = fd
		} else {
			defer unix.Close(fd)
		}
	}
	if fd == absent {
		return nil
	}
	return r.read(name, fd)
}

func (r *reading) read(name string, fd int) []byte {
	for {
		n, err := unix.Pread(fd, r.buf, 0)
		switch {
		case err == nil:
			return r.buf[:n]
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENODEV): // kernfs: the directory was removed
			r.err = ErrGone
			return nil
		case errors.Is(err, unix.EOPNOTSUPP): // pressure is switched off (cgroup.pressure, psi=0)
			return nil
		default:
			r.err = fmt.Errorf("read %s: %w", name, err)
			return nil
		}
	}
}

// open opens a file, absent when the node has none of that name.
func (r *reading) open(root, name string) int {
	dir := filepath.Join(root, r.meter.group.path)
	fd, err := openAt(unix.AT_FDCWD, filepath.Join(dir, name), unix.O_RDONLY)
	switch {
	case err == nil:
		return fd
	case errors.Is(err, unix.ENOENT) && unix.Access(dir, unix.F_OK) != nil:
		r.err = ErrGone
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP):
	default:
		r.err = fmt.Errorf("open %s: %w", name, err)
	}
	return absent
}

// number reads a file of one number; nil: there is no such file.
func (r *reading) number(root, name string) *uint64 {
	return parseNumber(r.text(root, name))
}

// parseNumber is nil when there is none. "max" is the greatest there is.
func parseNumber(text []byte) *uint64 {
	if n, ok := numberIn(text); ok {
		return &n
	}
	return nil
}

func numberIn(text []byte) (n uint64, ok bool) {
	text = bytes.TrimSpace(text)
	if string(text) == "max" {
		return math.MaxUint64, true
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	return n, err == nil
}

// fields calls f for each line "key number". The key is good until f returns.
func fields(text []byte, f func(key []byte, value uint64)) {
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(line, []byte(" "))
		if n, ok := numberIn(value); ok {
			f(key, n)
		}
	}
}

// noLimit says whether a limit limits nothing: v1 says so by the greatest number of pages.
func noLimit(n uint64) bool { return n >= math.MaxInt64-(1<<16) }

// less is a-b, and not below zero: the kernel's counters are not of one moment.
func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// parsePressure reads lines as "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", total in microseconds. It is nil when
// there are none.
func parsePressure(text []byte) *Pressure {
	var out Pressure
	found := false
	for line := range bytes.Lines(text) {
		to := &out.Some
		if bytes.HasPrefix(line, []byte("full ")) {
			to = &out.Full
		}
		for word := range bytes.FieldsSeq(line) {
			key, value, _ := bytes.Cut(word, []byte("="))
			switch string(key) {
			case "avg10":
				to.Avg10, _ = strconv.ParseFloat(string(value), 64)
			case "avg60":
				to.Avg60, _ = strconv.ParseFloat(string(value), 64)
			case "avg300":
				to.Avg300, _ = strconv.ParseFloat(string(value), 64)
			case "total":
				us, _ := strconv.ParseUint(string(value), 10, 64)
				to.Total, found = us*1000, true
			}
		}
	}
	if !found {
		return nil
	}
	return &out
}

func (r *reading) usageV2(out *Usage) {
	root := r.meter.group.tree.unified
	fields(r.text(root, "cpu.stat"), func(key []byte, n uint64) {
		if string(key) == "usage_usec" {
			nanoseconds := n * 1000
			out.CPU = &nanoseconds
		}
	})
	out.Tasks = r.number(root, "pids.current")
	current := r.number(root, "memory.current")
	if current == nil {
		return
	}
	mem := &MemoryUsage{Current: *current, WorkingSet: *current}
	fields(r.text(root, "memory.stat"), func(key []byte, n uint64) {
		switch string(key) {
		case "anon":
			mem.RSS = n
		case "inactive_file":
			mem.WorkingSet = less(mem.Current, n)
		case "pgfault":
			mem.Faults = n
		case "pgmajfault":
			mem.MajorFault = n
		}
	})
	if limit := r.number(root, "memory.max"); limit != nil && !noLimit(*limit) {
		mem.Limit = *limit
	}
	out.Memory = mem
	if swap := r.number(root, "memory.swap.current"); swap != nil {
		out.Swap = &SwapUsage{Current: *swap}
		if limit := r.number(root, "memory.swap.max"); limit != nil && !noLimit(*limit) {
			out.Swap.Limit = limit
		}
	}
}

func (r *reading) usageV1(out *Usage) {
	tree := r.meter.group.tree
	out.CPU = r.number(tree.controllerDir("cpuacct"), "cpuacct.usage")
	out.Tasks = r.number(tree.controllerDir("pids"), "pids.current")
	root := tree.controllerDir("memory")
	current := r.number(root, "memory.usage_in_bytes")
	if current == nil {
		return
	}
	mem, swap := &MemoryUsage{Current: *current, WorkingSet: *current}, (*uint64)(nil)
	fields(r.text(root, "memory.stat"), func(key []byte, n uint64) {
		switch string(key) { // total_: with the groups below
		case "total_rss":
			mem.RSS = n
		case "total_inactive_file":
			mem.WorkingSet = less(mem.Current, n)
		case "total_pgfault":
			mem.Faults = n
		case "total_pgmajfault":
			mem.MajorFault = n
		case "total_swap": // only where swap is accounted
			all := n
			swap = &all
		}
	})
	if limit := r.number(root, "memory.limit_in_bytes"); limit != nil && !noLimit(*limit) {
		mem.Limit = *limit
	}
	out.Memory = mem
	if swap != nil {
		out.Swap = &SwapUsage{Current: *swap}
		// That of memory and swap together.
		if limit := r.number(root, "memory.memsw.limit_in_bytes"); limit != nil && !noLimit(*limit) && mem.Limit > 0 {
			n := less(*limit, mem.Limit)
			out.Swap.Limit = &n
		}
	}
}
