package nri

//lint:file-ignore SA1019 prestart hooks are deprecated, and plugins may ask for them

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// generator changes a Spec for the nri module, whose interface for that (generate.UnderlyingGenerator) is one of
// runtime-tools, which brings validators of JSON schemas with it. It comes with what supported refuses, too: none of that
// is ever called.
type generator struct{ spec *specs.Spec }

// newGenerator needs a Spec with a process, as berth's have. What it shares with others of the container is copied.
func newGenerator(s *specs.Spec) generator {
	var hooks specs.Hooks
	if h := s.Hooks; h != nil {
		hooks = specs.Hooks{
			Prestart: slices.Clip(h.Prestart), CreateRuntime: slices.Clip(h.CreateRuntime), CreateContainer: slices.Clip(h.CreateContainer),
			StartContainer: slices.Clip(h.StartContainer), Poststart: slices.Clip(h.Poststart), Poststop: slices.Clip(h.Poststop),
		}
	}
	s.Hooks = &hooks
	s.Process.Env, s.Mounts, s.Linux.Devices = slices.Clone(s.Process.Env), slices.Clone(s.Mounts), slices.Clone(s.Linux.Devices)
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	return generator{s}
}

// finish takes back what newGenerator made and nothing was put into: hooks make a container's start dearer.
func (g generator) finish() {
	h := g.spec.Hooks
	if len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer)+len(h.StartContainer)+len(h.Poststart)+len(h.Poststop) == 0 {
		g.spec.Hooks = nil
	}
}

func (g generator) Spec() *specs.Spec { return g.spec }

func (g generator) AddAnnotation(key, value string) { g.spec.Annotations[key] = value }
func (g generator) RemoveAnnotation(key string)     { delete(g.spec.Annotations, key) }

func (g generator) SetProcessArgs(args []string)  { g.spec.Process.Args = args }
func (g generator) SetProcessOOMScoreAdj(adj int) { g.spec.Process.OOMScoreAdj = &adj }
func (g generator) ClearProcessEnv()              { g.spec.Process.Env = nil }

func (g generator) AddProcessEnv(name, value string) {
	env := &g.spec.Process.Env
	*env = append(slices.DeleteFunc(*env, func(e string) bool { return strings.HasPrefix(e, name+"=") }), name+"="+value)
}

func (g generator) Mounts() []specs.Mount  { return g.spec.Mounts }
func (g generator) AddMount(m specs.Mount) { g.spec.Mounts = append(g.spec.Mounts, m) }
func (g generator) ClearMounts()           { g.spec.Mounts = nil }
func (g generator) RemoveMount(where string) {
	g.spec.Mounts = slices.DeleteFunc(g.spec.Mounts, func(m specs.Mount) bool { return m.Destination == where })
}

func (g generator) RemoveDevice(path string) {
	g.spec.Linux.Devices = slices.DeleteFunc(g.spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == path })
}

func (g generator) AddDevice(d specs.LinuxDevice) {
	g.RemoveDevice(d.Path)
	g.spec.Linux.Devices = append(g.spec.Linux.Devices, d)
}

func (g generator) AddPreStartHook(h specs.Hook) {
	g.spec.Hooks.Prestart = append(g.spec.Hooks.Prestart, h)
}
func (g generator) AddPostStartHook(h specs.Hook) {
	g.spec.Hooks.Poststart = append(g.spec.Hooks.Poststart, h)
}
func (g generator) AddPostStopHook(h specs.Hook) {
	g.spec.Hooks.Poststop = append(g.spec.Hooks.Poststop, h)
}

func (g generator) resources() *specs.LinuxResources { return g.spec.Linux.Resources }

func (g generator) cpu() *specs.LinuxCPU {
	if g.resources().CPU == nil {
		g.resources().CPU = &specs.LinuxCPU{}
	}
	return g.resources().CPU
}

func (g generator) memory() *specs.LinuxMemory {
	if g.resources().Memory == nil {
		g.resources().Memory = &specs.LinuxMemory{}
	}
	return g.resources().Memory
}

func (g generator) SetLinuxResourcesCPUShares(v uint64)         { g.cpu().Shares = &v }
func (g generator) SetLinuxResourcesCPUQuota(v int64)           { g.cpu().Quota = &v }
func (g generator) SetLinuxResourcesCPUPeriod(v uint64)         { g.cpu().Period = &v }
func (g generator) SetLinuxResourcesCPURealtimeRuntime(v int64) { g.cpu().RealtimeRuntime = &v }
func (g generator) SetLinuxResourcesCPURealtimePeriod(v uint64) { g.cpu().RealtimePeriod = &v }
func (g generator) SetLinuxResourcesCPUCpus(v string)           { g.cpu().Cpus = v }
func (g generator) SetLinuxResourcesCPUMems(v string)           { g.cpu().Mems = v }
func (g generator) SetLinuxResourcesMemoryLimit(v int64)        { g.memory().Limit = &v }
func (g generator) SetLinuxResourcesMemorySwap(v int64)         { g.memory().Swap = &v }

func (g generator) AddLinuxResourcesDevice(allow bool, kind string, major, minor *int64, access string) {
	r := g.resources()
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: major, Minor: minor, Access: access})
}

func (g generator) AddLinuxResourcesHugepageLimit(size string, limit uint64) {
	r := g.resources()
	r.HugepageLimits = slices.DeleteFunc(r.HugepageLimits, func(h specs.LinuxHugepageLimit) bool { return h.Pagesize == size })
	r.HugepageLimits = append(r.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: limit})
}

func (g generator) AddLinuxResourcesUnified(key, value string) {
	if g.resources().Unified == nil {
		g.resources().Unified = map[string]string{}
	}
	g.resources().Unified[key] = value
}

func (g generator) SetLinuxRootPropagation(p string) error {
	g.spec.Linux.RootfsPropagation = p
	return nil
}

// What supported refuses.

func (g generator) SetLinuxCgroupsPath(string)                      {}
func (g generator) AddLinuxSysctl(string, string)                   {}
func (g generator) RemoveLinuxSysctl(string)                        {}
func (g generator) AddOrReplaceLinuxNamespace(string, string) error { return ErrUnsupported }
func (g generator) RemoveLinuxNamespace(string) error               { return ErrUnsupported }
