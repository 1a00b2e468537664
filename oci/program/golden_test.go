package program

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// plain is what sandbox/spec builds for a container with nothing special.
func plain() Container {
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	score := 1000
	spec := &specs.Spec{
		Process: &specs.Process{
			Args: []string{"sh", "-c", "sleep 1"}, Env: []string{"PATH=/usr/bin:/bin", "TOKEN=secret"}, Cwd: "/",
			User:         specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 2000}},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps},
			OOMScoreAdj:  &score,
		},
		Root: &specs.Root{Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "bind", Options: []string{"rbind"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}},
			MaskedPaths:   []string{"/proc/kcore"},
			ReadonlyPaths: []string{"/proc/sys"},
		},
	}
	return Container{
		Spec:        spec,
		Sources:     []Source{{Dir: true}, {Dir: true}, {Dir: true}, {Slot: true, Dir: true}, {Dir: true}},
		Join:        []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace},
		CgroupFiles: []string{"memory", "pids"},
		LastCap:     40,
	}
}

func compileExec(change func(*Exec)) (*Program, error) {
	e := Exec{Process: plain().Spec.Process, CgroupDir: true, LastCap: 40}
	change(&e)
	return CompileExec(e)
}

// golden holds the programs whose text stands under testdata.
var golden = map[string]func() (*Program, error){
	"plain": func() (*Program, error) { return CompileContainer(plain()) },
	"shared-pid": func() (*Program, error) {
		c := plain()
		c.Join = append(c.Join, specs.PIDNamespace)
		return CompileContainer(c)
	},
	"privileged": func() (*Program, error) {
		c := plain()
		c.CgroupFiles, c.CgroupDir = nil, true
		c.Spec.Process.User = specs.User{}
		c.Spec.Linux.MaskedPaths, c.Spec.Linux.ReadonlyPaths, c.Spec.Root.Readonly = nil, nil, false
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/loop0", Type: "b", Major: 7, Minor: 0}, {Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200}}
		c.Spec.Linux.RootfsPropagation = "rslave"
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev"}})
		c.Sources = append(c.Sources, Source{Dir: true})
		c.CgroupV1 = []string{"cpu,cpuacct", "memory", "name=systemd"}
		return CompileContainer(c)
	},
	"command-terminal": func() (*Program, error) {
		return CompileCommand(Command{Args: []string{"/usr/bin/crun", "exec", "id"}, TTY: true})
	},
	"command-extra": func() (*Program, error) {
		score := 300
		return CompileCommand(Command{Args: []string{"/usr/sbin/criu", "swrk", "3"}, Extra: 2, CgroupDir: true, CgroupNamespace: true, OOMScore: &score})
	},
	"command": func() (*Program, error) {
		return CompileCommand(Command{
			Args: []string{"/usr/bin/crun", "create", "id"}, Env: []string{"PATH=/bin"},
			Mounts: []Attach{{Target: "/run/bundle/rootfs"}, {Target: "/run/bundle/mounts/3"}},
		})
	},
	"volumes": func() (*Program, error) {
		c := plain()
		c.Spec.Process.NoNewPrivileges = true
		c.Spec.Process.Cwd = "/data/work"
		c.Seccomp = &Seccomp{Filter: []unix.SockFilter{{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}}}
		for _, m := range []specs.Mount{
			{Destination: "/data", Source: "/srv/data", Type: "bind", Options: []string{"rbind", "rprivate"}},
			{Destination: "/etc/resolv.conf", Source: "/x/resolv.conf", Type: "bind", Options: []string{"rbind"}},
			{Destination: "/cache", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m", "nosuid"}},
		} {
			c.Spec.Mounts = append(c.Spec.Mounts, m)
			c.Sources = append(c.Sources, Source{Slot: m.Type == "bind", Dir: m.Destination != "/etc/resolv.conf"})
		}
		return CompileContainer(c)
	},
	"user-namespace": func() (*Program, error) {
		c := plain()
		c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		c.Join = append(c.Join, specs.UserNamespace)
		c.Sources[1].Slot, c.DevicesMade = true, true // /dev
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}, {Path: "/opt/dev/x", Type: "c", Major: 10, Minor: 1}}
		return CompileContainer(c)
	},
	"new-user-namespace": func() (*Program, error) {
		c := plain()
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
		c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings = ids, ids
		c.Sources[1].Slot, c.DevicesMade, c.Join = true, true, nil
		return CompileContainer(c)
	},
	"time-namespace": func() (*Program, error) {
		c := plain()
		c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		c.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 86400, Nanosecs: 5}, "boottime": {Secs: -60}}
		c.Spec.Domainname = "example.org" // of the joined uts namespace
		return CompileContainer(c)
	},
	"terminal": func() (*Program, error) {
		c := plain()
		c.Terminal = true
		c.Sources[2].Slot = true
		return CompileContainer(c)
	},
	"exec":          func() (*Program, error) { return compileExec(func(*Exec) {}) },
	"exec-reaper":   func() (*Program, error) { return compileExec(func(e *Exec) { e.Reaper = true }) },
	"exec-terminal": func() (*Program, error) { return compileExec(func(e *Exec) { e.TTY = true }) },
	"labels": func() (*Program, error) {
		return compileExec(func(e *Exec) {
			p := *e.Process
			p.ApparmorProfile, p.SelinuxLabel = "berth-default", "system_u:system_r:container_t:s0:c1,c2"
			e.Process = &p
		})
	},
	"labelled": func() (*Program, error) {
		c := plain()
		c.Spec.Process.SelinuxLabel = "system_u:system_r:container_t:s0:c1,c2"
		c.Spec.Linux.MountLabel = "system_u:object_r:container_file_t:s0:c1,c2"
		return CompileContainer(c)
	},
	"hooks": func() (*Program, error) {
		c := plain()
		hook := []specs.Hook{{Path: "/bin/true"}}
		c.Spec.Hooks = &specs.Hooks{CreateRuntime: hook, StartContainer: hook}
		c.RootAt = "/run/berth/bundle/rootfs"
		c.Seccomp = &Seccomp{Filter: []unix.SockFilter{{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}}, Notify: true}
		return CompileContainer(c)
	},
	"scheduling": func() (*Program, error) {
		return compileExec(func(e *Exec) {
			p := *e.Process
			p.Scheduler = &specs.Scheduler{Policy: specs.SchedDeadline, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}, Runtime: 1000, Deadline: 2000, Period: 3000}
			p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}
			p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-1,64", Final: "3"}
			e.Process = &p
			e.Linux = &specs.Linux{
				Personality:  &specs.LinuxPersonality{Domain: specs.PerLinux32},
				MemoryPolicy: &specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0-1", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}},
			}
		})
	},
	"pod": func() (*Program, error) {
		return CompilePod(Pod{Namespaces: []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace},
			Hostname: "web", Sysctls: map[string]string{"net.core.somaxconn": "1024", "net/ipv4/conf/eth0.1/forwarding": "1", "net.ipv4.conf.eth0/2.forwarding": "0"}})
	},
	"user-namespace-pod": func() (*Program, error) {
		return CompilePod(Pod{Namespaces: []specs.LinuxNamespaceType{specs.UserNamespace, specs.NetworkNamespace},
			Sysctls: map[string]string{"net.core.somaxconn": "1024"}, UIDMap: "0 100000 65536\n", GIDMap: "0 100000 65536\n"})
	},
	"pause": func() (*Program, error) {
		return CompilePause(Pause{Join: []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace}, LastCap: 40, User: 65535})
	},
}

func TestGolden(t *testing.T) {
	for name, compile := range golden {
		t.Run(name, func(t *testing.T) {
			p, err := compile()
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := compile(); again.String() != p.String() {
				t.Error("two compilations differ")
			}
			got := p.String()
			if strings.Contains(got, "secret") {
				t.Error("the text shows the environment")
			}
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs (go test -update writes it anew):\n%s", file, got)
			}
		})
	}
}

// Whatever comes before pivot_root may name the host; whatever comes behind may not: its paths are
// resolved below the root by descriptor, or by openat2 with RESOLVE_IN_ROOT, which open always asks for.
func TestNoHostPathAfterPivot(t *testing.T) {
	for name, compile := range golden {
		p, err := compile()
		if err != nil {
			t.Fatal(err)
		}
		inside := false
		for i, s := range p.Steps {
			inside = inside || s.Call == unix.SYS_PIVOT_ROOT
			if !inside {
				continue
			}
			switch s.Call {
			case unix.SYS_OPENAT, unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_SYMLINKAT, unix.SYS_OPEN_TREE:
				for _, a := range s.Args[:2] {
					if a.Text == "AT_FDCWD" {
						t.Errorf("%s: step %d names a path by the working directory: %s", name, i, p.line(i))
					}
				}
			case unix.SYS_MOUNT:
				if text := p.argText(s.Args[0]); text != "0" {
					t.Errorf("%s: step %d mounts by path: %s", name, i, p.line(i))
				}
			}
		}
	}
}
