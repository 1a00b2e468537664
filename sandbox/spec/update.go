package spec

import (
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// With returns r after an update: what the update sets is new, and the rest stays.
// r may be nil. The result is what clients are told, and what the container is started
// with when it has not been yet. A *FieldError says what does not fit together.
//
// The score for the out-of-memory killer stays: the processes have theirs from their
// start, and CRI has no word of changing it.
func (r *Resources) With(update *Resources) (*Resources, error) {
	out := &Resources{}
	if r != nil {
		*out = *r
	}
	if update == nil {
		return out, nil
	}
	if err := update.validate("linux"); err != nil {
		return nil, err
	}
	for to, from := range map[*int64]int64{
		&out.CPUPeriod: update.CPUPeriod, &out.CPUQuota: update.CPUQuota, &out.CPUShares: update.CPUShares,
		&out.MemoryLimit: update.MemoryLimit, &out.MemorySwap: update.MemorySwap,
	} {
		if from != 0 {
			*to = from
		}
	}
	for to, from := range map[*string]string{&out.CpusetCPUs: update.CpusetCPUs, &out.CpusetMems: update.CpusetMems} {
		if from != "" {
			*to = from
		}
	}
	out.Hugepages = slices.Clone(out.Hugepages)
	for _, h := range update.Hugepages {
		if i := slices.IndexFunc(out.Hugepages, func(o HugepageLimit) bool { return o.PageSize == h.PageSize }); i >= 0 {
			out.Hugepages[i] = h
		} else {
			out.Hugepages = append(out.Hugepages, h)
		}
	}
	if len(update.Unified) > 0 {
		out.Unified = maps.Clone(out.Unified)
		if out.Unified == nil {
			out.Unified = map[string]string{}
		}
		maps.Copy(out.Unified, update.Unified)
	}
	return out, out.validate("linux")
}

// Changes are the limits that an update changes in a container that then has r. Memory
// and swap belong together: both are there when one of them is changed.
func (r *Resources) Changes(update *Resources) *specs.LinuxResources {
	out := update.Linux()
	if out.Memory != nil {
		out.Memory = r.Linux().Memory
	}
	return out
}
