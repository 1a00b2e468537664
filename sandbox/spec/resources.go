package spec

import (
	"maps"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Linux turns CRI's limits into OCI's, zero meaning "not set" and so nil. It
// may be called on nil, and never returns nil.
//
// A memory limit without a swap limit allows no swap: the limit of memory and
// swap together is the memory limit, as in other runtimes.
func (r *Resources) Linux() *specs.LinuxResources {
	out := &specs.LinuxResources{}
	if r == nil {
		return out
	}
	out.CPU = r.cpu()
	swap := r.MemorySwap
	if swap == 0 {
		swap = r.MemoryLimit
	}
	if swap != 0 {
		out.Memory = &specs.LinuxMemory{Limit: unlessZero(r.MemoryLimit), Swap: unlessZero(swap)}
	}
	for _, h := range r.Hugepages {
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.PageSize, Limit: h.Limit})
	}
	if len(r.Unified) > 0 {
		out.Unified = maps.Clone(r.Unified)
	}
	return out
}

func (r *Resources) cpu() *specs.LinuxCPU {
	cpu := specs.LinuxCPU{Quota: unlessZero(r.CPUQuota), Cpus: r.CpusetCPUs, Mems: r.CpusetMems}
	if r.CPUPeriod > 0 {
		period := uint64(r.CPUPeriod)
		cpu.Period = &period
	}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		cpu.Shares = &shares
	}
	if cpu == (specs.LinuxCPU{}) {
		return nil
	}
	return &cpu
}

func unlessZero(v int64) *int64 {
	if v == 0 {
		return nil
	}
	return &v
}

// containerResources are a container's limits and its device rules.
func containerResources(in Input) *specs.LinuxResources {
	out := in.Container.Resources.Linux()
	if limit := in.Node.PidsLimit; limit > 0 {
		out.Pids = &specs.LinuxPids{Limit: &limit}
	}
	out.Devices = deviceRules(in)
	return out
}

// defaultDeviceMode is that of the default devices: everyone may use them.
const defaultDeviceMode = os.FileMode(0o666)

// defaultDevices are the nodes that OCI's "default devices" are, but for
// /dev/ptmx and /dev/console, which are a link and a terminal.
func defaultDevices() []specs.LinuxDevice {
	node := func(path string, major, minor int64) specs.LinuxDevice {
		mode, root := defaultDeviceMode, uint32(0)
		return specs.LinuxDevice{Path: path, Type: "c", Major: major, Minor: minor, FileMode: &mode, UID: &root, GID: &root}
	}
	return []specs.LinuxDevice{
		node("/dev/null", 1, 3), node("/dev/zero", 1, 5), node("/dev/full", 1, 7),
		node("/dev/random", 1, 8), node("/dev/urandom", 1, 9), node("/dev/tty", 5, 0),
	}
}

// deviceNodes are the nodes in the container's /dev. One that the client asks
// for takes the place of a default one.
func deviceNodes(in Input) []specs.LinuxDevice {
	var out []specs.LinuxDevice
	add := func(d specs.LinuxDevice) {
		if i := slices.IndexFunc(out, func(o specs.LinuxDevice) bool { return o.Path == d.Path }); i >= 0 {
			out[i] = d
			return
		}
		out = append(out, d)
	}
	for _, d := range defaultDevices() {
		add(d)
	}
	if in.Container.Security.Privileged {
		for _, d := range in.HostDevices {
			add(d.LinuxDevice)
		}
	}
	for _, d := range in.Devices {
		add(d.LinuxDevice)
	}
	return out
}

// deviceRules say which devices the container's cgroup lets through: none but
// the default ones and those asked for; all of them when privileged. Making a
// node is always allowed, as elsewhere: using it is what counts.
func deviceRules(in Input) []specs.LinuxDeviceCgroup {
	if in.Container.Security.Privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Type: "a", Major: number(-1), Minor: number(-1), Access: "rwm"}}
	}
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Type: "a", Major: number(-1), Minor: number(-1), Access: "rwm"},
		{Allow: true, Type: "c", Major: number(-1), Minor: number(-1), Access: "m"},
		{Allow: true, Type: "b", Major: number(-1), Minor: number(-1), Access: "m"},
		{Allow: true, Type: "c", Major: number(136), Minor: number(-1), Access: "rwm"}, // /dev/pts/N
		{Allow: true, Type: "c", Major: number(5), Minor: number(2), Access: "rwm"},    // /dev/ptmx
		{Allow: true, Type: "c", Major: number(5), Minor: number(1), Access: "rwm"},    // /dev/console
	}
	for _, d := range defaultDevices() {
		rules = append(rules, deviceRule(d, "rwm"))
	}
	for _, d := range in.Devices {
		rules = append(rules, deviceRule(d.LinuxDevice, d.Access))
	}
	return rules
}

func deviceRule(d specs.LinuxDevice, access string) specs.LinuxDeviceCgroup {
	kind := d.Type
	if kind == "u" {
		kind = "c" // OCI's "unbuffered" is a character device to the cgroup
	}
	return specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: number(d.Major), Minor: number(d.Minor), Access: access}
}

func number(n int64) *int64 { return &n }
