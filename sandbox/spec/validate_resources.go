package spec

import (
	"math"
	"strings"
)

// validate checks the form of limits; what the machine can give, the kernel says.
func (r *Resources) validate(field string) error {
	if r == nil {
		return nil
	}
	for _, n := range []struct {
		name          string
		value         int64
		lowest, above int64
	}{
		{"cpu_period", r.CPUPeriod, 0, math.MaxInt64},
		{"cpu_quota", r.CPUQuota, -1, math.MaxInt64},
		{"cpu_shares", r.CPUShares, 0, math.MaxInt64},
		{"memory_limit_in_bytes", r.MemoryLimit, -1, math.MaxInt64},
		{"memory_swap_limit_in_bytes", r.MemorySwap, -1, math.MaxInt64},
		{"oom_score_adj", r.OOMScoreAdj, -1000, 1000},
	} {
		if n.value < n.lowest || n.value > n.above {
			return invalid(field+"."+n.name, n.value, "must be from %d to %d", n.lowest, n.above)
		}
	}
	if r.MemorySwap > 0 && r.MemoryLimit > 0 && r.MemorySwap < r.MemoryLimit {
		return invalid(field+".memory_swap_limit_in_bytes", r.MemorySwap, "is memory and swap together, and less than memory_limit_in_bytes %d", r.MemoryLimit)
	}
	return firstError(
		func() error { return validateCPUList(field+".cpuset_cpus", r.CpusetCPUs) },
		func() error { return validateCPUList(field+".cpuset_mems", r.CpusetMems) },
		func() error { return validateHugepages(field+".hugepage_limits", r.Hugepages) },
		func() error { return validateUnified(field+".unified", r.Unified) },
	)
}

// validateCPUList wants the kernel's list format, "0-3,8" (cpuset(7)).
func validateCPUList(field, list string) error {
	if strings.Trim(list, "0123456789,-:/") != "" {
		return invalid(field, list, `must be a list like "0-3,8"`)
	}
	return nil
}

// validateHugepages wants page sizes as the files of the hugetlb controller
// have them: "64KB", "2MB", "1GB".
func validateHugepages(field string, limits []HugepageLimit) error {
	for i, h := range limits {
		digits := strings.TrimRight(h.PageSize, "KMGTB")
		unit := h.PageSize[len(digits):]
		if digits == "" || strings.Trim(digits, "0123456789") != "" || len(unit) != 2 || unit[1] != 'B' || unit[0] == 'B' {
			return invalid(index(field, i)+".page_size", h.PageSize, `must be like "2MB"`)
		}
	}
	return nil
}

// validateUnified wants names of cgroup files, which are CONTROLLER.NAME: what
// is written there must not reach another directory, nor the core interface
// (cgroup.procs, cgroup.kill, …).
func validateUnified(field string, unified map[string]string) error {
	for key, value := range unified {
		controller, name, ok := strings.Cut(key, ".")
		if !ok || name == "" || controller == "" || strings.ContainsFunc(key, notUnifiedRune) {
			return invalid(field, key, "must be the name of a cgroup v2 file, CONTROLLER.NAME")
		}
		if controller == "cgroup" && name != "max.descendants" && name != "max.depth" {
			return invalid(field, key, "must not be of the core interface")
		}
		if strings.ContainsRune(value, 0) || len(value) > 4096 {
			return invalid(field+"["+key+"]", value, "must be at most 4096 bytes without NUL")
		}
	}
	return nil
}

func notUnifiedRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
}
