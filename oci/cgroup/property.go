package cgroup

import (
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

func property(name string, value any) dbus.Property {
	return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
}

// scopeProperties are what every scope has (systemd.scope(5)).
func scopeProperties(slice string, pid int) []dbus.Property {
	return []dbus.Property{
		property("Description", "container of berth"),
		property("Slice", slice),
		property("PIDs", []uint32{uint32(pid)}),
		property("Delegate", true),
		property("DefaultDependencies", false), // nothing to be stopped for at a shutdown but by kubelet
		property("CollectMode", "inactive-or-failed"),
		property("TasksMax", uint64(math.MaxUint64)), // or the default of the node's users
	}
}

// numbers are the files that systemd has a property of the same meaning for
// (systemd.resource-control(5)); the others it leaves alone.
var numbers = map[string]string{
	"memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin",
	"memory.swap.max": "MemorySwapMax", "cpu.weight": "CPUWeight", "pids.max": "TasksMax",
	"memory.limit_in_bytes": "MemoryLimit", "cpu.shares": "CPUShares",
}

// oomPolicy is the version that has OOMPolicy for scopes; before, systemd writes 0 to
// memory.oom.group with every other change.
const oomPolicy = 253

// properties are settings in the words of a version of systemd.
func properties(settings []setting, version int) []dbus.Property {
	var out []dbus.Property
	var quota, period uint64
	for _, s := range settings {
		switch s.file {
		case "cpu.max":
			q, p, _ := strings.Cut(s.value, " ")
			quota, period = limit(q), limit(p)
		case "cpu.cfs_quota_us":
			quota = limit(s.value)
		case "cpu.cfs_period_us":
			period = limit(s.value)
		case "memory.oom.group":
			if version >= oomPolicy {
				out = append(out, property("OOMPolicy", map[bool]string{true: "kill", false: "continue"}[s.value == "1"]))
			}
		case "cpuset.cpus":
			out = append(out, property("AllowedCPUs", mask(s.value)))
		case "cpuset.mems":
			out = append(out, property("AllowedMemoryNodes", mask(s.value)))
		default:
			if name, ok := numbers[s.file]; ok {
				out = append(out, property(name, limit(s.value)))
			}
		}
	}
	if quota != 0 {
		if period == 0 || period == math.MaxUint64 {
			period = 100000 // the kernel's own
		}
		out = append(out, property("CPUQuotaPerSecUSec", perSecond(quota, period)), property("CPUQuotaPeriodUSec", period))
	}
	return out
}

// perSecond is a quota of a period as one of a second; no limit stays none.
func perSecond(quota, period uint64) uint64 {
	if quota == math.MaxUint64 {
		return quota
	}
	high, low := bits.Mul64(quota, 1000000)
	if high >= period {
		return math.MaxUint64
	}
	out, _ := bits.Div64(high, low, period)
	return out
}

// limit is a number of a cgroup file; "max" and negative ones are no limit.
func limit(value string) uint64 {
	if n, err := strconv.ParseUint(value, 10, 64); err == nil {
		return n
	}
	return math.MaxUint64
}

// mask is a list of processors, "0-3,8", as bits.
func mask(list string) []byte {
	out := []byte{}
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, ranged := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to := from
		if ranged && err == nil {
			to, err = strconv.Atoi(last)
		}
		if err != nil || from < 0 || to > 1<<16 {
			continue // the kernel refuses it in the file
		}
		for i := from; i <= to; i++ {
			for len(out) <= i/8 {
				out = append(out, 0)
			}
			out[i/8] |= 1 << (i % 8)
		}
	}
	return out
}
