package nri

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// base is a Spec as berth makes them.
func base() *specs.Spec {
	limit := int64(64 << 20)
	return &specs.Spec{
		Process: &specs.Process{Args: []string{"old"}, Env: []string{"A=1", "B=2", "C=3"}},
		Mounts:  []specs.Mount{{Destination: "/data", Source: "/srv", Type: "bind"}, {Destination: "/gone", Source: "/x", Type: "bind"}},
		Linux: &specs.Linux{
			Devices:   []specs.LinuxDevice{{Path: "/dev/old"}},
			Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}},
			Seccomp:   &specs.LinuxSeccomp{DefaultAction: specs.ActErrno},
		},
	}
}

// apply takes an adjustment the way it goes: through a container's record.
func apply(t *testing.T, a *api.ContainerAdjustment, s *specs.Spec) {
	t.Helper()
	message, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := new(Plugins).Apply(message, s); err != nil {
		t.Fatal(err)
	}
}

func TestApply(t *testing.T) {
	a := &api.ContainerAdjustment{}
	a.AddEnv("B", "new")
	a.AddEnv("D", "4")
	a.RemoveEnv("C")
	a.SetArgs([]string{"new", "args"})
	a.AddAnnotation("note", "x")
	a.RemoveMount("/gone")
	a.AddMount(&api.Mount{Destination: "/more", Source: "/y", Type: "bind", Options: []string{"ro"}})
	a.RemoveDevice("/dev/old")
	a.AddDevice(&api.LinuxDevice{Path: "/dev/new", Type: "c", Major: 1, Minor: 3})
	a.SetLinuxMemoryLimit(96 << 20)
	a.SetLinuxCPUShares(512)
	a.SetLinuxCPUQuota(20000)
	a.SetLinuxCPUSetCPUs("0-1")
	a.SetLinuxPidLimits(77)
	a.AddLinuxUnified("memory.high", "1")
	a.AddLinuxHugepageLimit("2MB", 4<<20)
	a.SetLinuxOomScoreAdj(intPointer(123))
	a.AddRlimit("RLIMIT_NOFILE", 10, 5)
	s := base()
	apply(t, a, s)
	for what, pair := range map[string][2]any{
		"env":         {s.Process.Env, []string{"A=1", "B=new", "D=4"}},
		"args":        {s.Process.Args, []string{"new", "args"}},
		"annotations": {s.Annotations, map[string]string{"note": "x"}},
		"mounts":      {destinations(s), []string{"/data", "/more"}},
		"devices":     {s.Linux.Devices[0].Path, "/dev/new"},
		"device rule": {s.Linux.Resources.Devices[0].Allow, true},
		"memory":      {*s.Linux.Resources.Memory.Limit, int64(96 << 20)},
		"swap":        {*s.Linux.Resources.Memory.Swap, int64(96 << 20)},
		"shares":      {*s.Linux.Resources.CPU.Shares, uint64(512)},
		"quota":       {*s.Linux.Resources.CPU.Quota, int64(20000)},
		"cpus":        {s.Linux.Resources.CPU.Cpus, "0-1"},
		"pids":        {*s.Linux.Resources.Pids.Limit, int64(77)},
		"unified":     {s.Linux.Resources.Unified["memory.high"], "1"},
		"huge pages":  {s.Linux.Resources.HugepageLimits[0].Limit, uint64(4 << 20)},
		"oom":         {*s.Process.OOMScoreAdj, 123},
		"rlimit":      {s.Process.Rlimits[0].Soft, uint64(5)},
		"hooks":       {s.Hooks, (*specs.Hooks)(nil)},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, wanted %v", what, pair[0], pair[1])
		}
	}
}

func intPointer(v int) *int { return &v }

func destinations(s *specs.Spec) []string {
	var out []string
	for _, m := range s.Mounts {
		out = append(out, m.Destination)
	}
	return out
}

// What a Spec shares with those of other containers stays as it is.
func TestApplyLeavesTheRest(t *testing.T) {
	a := &api.ContainerAdjustment{}
	a.SetLinuxSeccompPolicy(&api.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW"})
	a.AddHooks(&api.Hooks{Poststart: []*api.Hook{{Path: "/added"}}})
	s := base()
	shared, hooks := s.Linux.Seccomp, &specs.Hooks{Poststart: make([]specs.Hook, 1, 5)}
	hooks.Poststart[0].Path = "/first"
	s.Hooks = hooks
	apply(t, a, s)
	if shared.DefaultAction != specs.ActErrno || s.Linux.Seccomp.DefaultAction != specs.ActAllow {
		t.Errorf("the shared profile's action is %s, the container's %s", shared.DefaultAction, s.Linux.Seccomp.DefaultAction)
	}
	if len(s.Hooks.Poststart) != 2 || hooks.Poststart[:2][1].Path != "" {
		t.Errorf("hooks are %v, and the shared ones %v", s.Hooks.Poststart, hooks.Poststart[:2])
	}
	empty := base()
	apply(t, &api.ContainerAdjustment{}, empty)
	if empty.Hooks != nil || !reflect.DeepEqual(empty.Process, base().Process) {
		t.Errorf("nothing was to change: %+v", empty)
	}
}

func TestSupported(t *testing.T) {
	good := &api.ContainerAdjustment{Linux: &api.LinuxContainerAdjustment{Rdt: &api.LinuxRdt{}, Resources: &api.LinuxResources{}}}
	if err := supported(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*api.ContainerAdjustment){
		"cgroup":    func(a *api.ContainerAdjustment) { a.SetLinuxCgroupsPath("/x") },
		"namespace": func(a *api.ContainerAdjustment) { a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "pid"}) },
		"sysctl":    func(a *api.ContainerAdjustment) { a.SetLinuxSysctl("kernel.x", "1") },
		"RDT":       func(a *api.ContainerAdjustment) { a.SetLinuxRDTClass("gold") },
		"RDT group": func(a *api.ContainerAdjustment) { a.SetLinuxRDTClosID("gold") },
		"block I/O": func(a *api.ContainerAdjustment) { a.SetLinuxBlockIOClass("slow") },
		"device":    func(a *api.ContainerAdjustment) { a.AddLinuxNetDevice("eth9", &api.LinuxNetDevice{Name: "eth1"}) },
	} {
		a := &api.ContainerAdjustment{}
		change(a)
		if err := supported(a); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeResources(t *testing.T) {
	in := &spec.Resources{
		CPUPeriod: 100000, CPUQuota: 50000, CPUShares: 77, MemoryLimit: 1 << 20, MemorySwap: 2 << 20, CpusetCPUs: "0", CpusetMems: "0",
		Hugepages: []spec.HugepageLimit{{PageSize: "2MB", Limit: 1}}, Unified: map[string]string{"a": "b"},
	}
	if out := decodeResources(api.FromOCILinuxResources(in.Linux(), nil)); !reflect.DeepEqual(in, out) {
		t.Errorf("%+v became %+v", in, out)
	}
	if out := decodeResources(nil); !reflect.DeepEqual(out, &spec.Resources{}) {
		t.Errorf("nothing became %+v", out)
	}
}
