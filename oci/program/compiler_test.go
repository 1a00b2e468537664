package program

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCompileRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Container)
		want   string
	}{
		{"no arguments", func(c *Container) { c.Spec.Process.Args = nil }, "no process, arguments"},
		{"NUL in argument", func(c *Container) { c.Spec.Process.Args = []string{"a\x00b"} }, "NUL byte"},
		{"relative destination", func(c *Container) { c.Spec.Mounts[0].Destination = "proc" }, `"proc" is not absolute`},
		{"relative cwd", func(c *Container) { c.Spec.Process.Cwd = "x" }, `"x": not absolute`},
		{"host mount namespace", func(c *Container) { c.Spec.Linux.Namespaces = c.Spec.Linux.Namespaces[:4] }, "mount namespace of its own"},
		{"namespace path", func(c *Container) { c.Spec.Linux.Namespaces[0].Path = "/x" }, "pid: neither new nor given"},
		{"long option", func(c *Container) {
			c.Spec.Mounts[1].Options = append(c.Spec.Mounts[1].Options, "context="+strings.Repeat("x", 256))
		}, "longer than the kernel's 255 bytes"},
		{"device type", func(c *Container) { c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "z"}} }, `type "z"`},
		{"rlimit", func(c *Container) { c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, `"RLIMIT_X": unknown`},
		{"propagation", func(c *Container) { c.Spec.Linux.RootfsPropagation = "sideways" }, `"sideways"`},
		{"scheduler policy", func(c *Container) { c.Spec.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_LUCK"} }, `"SCHED_LUCK": unknown`},
		{"scheduler flag", func(c *Container) {
			c.Spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{"X"}}
		}, `flag "X": unknown`},
		{"I/O class", func(c *Container) { c.Spec.Process.IOPriority = &specs.LinuxIOPriority{Class: "X"} }, `class "X": unknown`},
		{"I/O priority", func(c *Container) {
			c.Spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		}, "priority 8"},
		{"personality", func(c *Container) { c.Spec.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} }, `"BSD": unknown`},
		{"personality flag", func(c *Container) {
			c.Spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"X"}}
		}, `flag "X"`},
		{"memory policy", func(c *Container) { c.Spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "X"} }, `"X": unknown`},
		{"memory nodes", func(c *Container) {
			c.Spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "1-0"}
		}, `"1-0": must be numbers`},
		{"time clock", func(c *Container) {
			c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			c.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {Secs: 1}}
		}, `"realtime"`},
		{"time offset", func(c *Container) {
			c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			c.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Nanosecs: 1e9}}
		}, "1000000000 nanoseconds"},
		{"time without namespace", func(c *Container) {
			c.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		}, "need a new time namespace"},
		{"time and users", func(c *Container) {
			c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace})
			c.Join = nil
		}, "and a new time namespace"},
		{"no bundle for hooks", func(c *Container) { c.Spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/x"}}} }, `bundle "": not absolute`},
		{"filter", func(c *Container) { c.Seccomp = &Seccomp{} }, "0 instructions"},
	} {
		c := plain()
		tc.change(&c)
		_, err := CompileContainer(c)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

func BenchmarkCompileContainer(b *testing.B) {
	c := plain()
	for b.Loop() {
		if _, err := CompileContainer(c); err != nil {
			b.Fatal(err)
		}
	}
}
