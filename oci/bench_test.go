package oci

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/berth-runtime/berth/oci/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultSecurity is the spec of a container with all that kubelet asks for when nobody asks for anything:
// Docker's capabilities and seccomp filter, masked and read-only paths, bound files, a user who is not root.
func defaultSecurity(tb testing.TB) *specs.Spec {
	tb.Helper()
	s := testSpec()
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	s.Process.User, s.Process.NoNewPrivileges, s.Process.Cwd = specs.User{UID: 1000, GID: 1000}, true, "/"
	s.Linux.MaskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	s.Linux.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	var err error
	if s.Linux.Seccomp, err = seccomp.Default(caps); err != nil {
		tb.Fatal(err)
	}
	file := tb.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		tb.Fatal(err)
	}
	for _, d := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: d, Type: "bind", Source: file, Options: []string{"rbind", "rprivate"}})
	}
	return s
}

// slackVariable has the benchmarks fail when a median is over that many times its bound, for a machine that does other
// things too; unset: none fails.
const slackVariable = "BERTH_BENCH_SLACK"

// median reports the middle of what was measured, which neighbours on the machine move less than the mean. bound is what
// it is to be at most, 0: nobody says.
func median(b *testing.B, took []time.Duration, unit string, bound time.Duration) {
	b.Helper()
	slices.Sort(took)
	middle := took[len(took)/2]
	b.ReportMetric(float64(middle.Nanoseconds())/1e3, unit)
	b.ReportMetric(float64(took[len(took)/10].Nanoseconds())/1e3, "p10-"+unit)
	text := os.Getenv(slackVariable)
	if text == "" || bound == 0 || len(took) < 20 { // a benchmark begins with a single round
		return
	}
	slack, err := strconv.ParseFloat(text, 64)
	if err != nil {
		b.Fatalf("%s: %v", slackVariable, err)
	}
	if most := time.Duration(float64(bound) * slack); middle > most {
		b.Errorf("%s: the median is %v, bound %v, allowed %v", unit, middle, bound, most)
	}
}

// BenchmarkLaunch measures from clone3 to the execve of the user's program.
func BenchmarkLaunch(b *testing.B) {
	needRoot(b)
	n := testNode(b)
	pod := []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace}
	b.Run("default security", func(b *testing.B) {
		s := defaultSecurity(b)
		s.Hostname = ""
		benchmarkLaunch(b, n, Container{Spec: s, Namespaces: podNamespaces(b, n, Pod{Namespaces: pod})}, 2*time.Millisecond)
	})
	b.Run("user namespace", func(b *testing.B) {
		s := defaultSecurity(b)
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
		s.Hostname, s.Linux.UIDMappings, s.Linux.GIDMappings = "", ids, ids
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		ns := podNamespaces(b, n, Pod{Namespaces: append(slices.Clone(pod), specs.UserNamespace), UIDs: ids, GIDs: ids})
		benchmarkLaunch(b, n, Container{Spec: s, Namespaces: ns}, 3*time.Millisecond)
	})
}

func benchmarkLaunch(b *testing.B, n *Node, in Container, bound time.Duration) {
	dir := rootDir(b)
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		if err := os.WriteFile(dir+"/etc/"+name, nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	launcher := newLauncher(b)
	var prepared, launched []time.Duration
	for b.Loop() {
		root, _, err := mount.Bind(dir, program.MountOptions{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		in.Root = root
		start := time.Now()
		l, err := n.PrepareContainer(in)
		prepared = append(prepared, time.Since(start))
		if err != nil {
			b.Fatal(err)
		}
		fds := descriptors(l)
		start = time.Now()
		c, err := launcher.StartTimed(l.Program, fds)
		if err != nil {
			b.Fatal(err)
		}
		pid, err := c.Wait()
		launched = append(launched, time.Since(start))
		if err != nil {
			b.Fatal(l.Explain(err))
		}
		unix.PidfdSendSignal(c.PidFD, unix.SIGKILL, nil, 0)
		unix.Close(c.PidFD)
		unix.Wait4(c.PID, nil, 0, nil)
		if pid != c.PID {
			unix.Kill(pid, unix.SIGKILL)
			unix.Wait4(pid, nil, 0, nil)
		}
		l.Close()
		root.Close()
	}
	median(b, prepared, "µs-to-prepare", 0)
	median(b, launched, "µs-to-execve", bound)
}

// BenchmarkCompile measures the compiler alone; the filter comes from the cache, as with every container but
// the first of its kind.
func BenchmarkCompile(b *testing.B) {
	s := defaultSecurity(b)
	filter, err := filter(s.Linux.Seccomp)
	if err != nil {
		b.Fatal(err)
	}
	in := program.Container{Spec: s, Sources: make([]program.Source, len(s.Mounts)), Seccomp: filter, LastCap: 40, CgroupV1: []string{"memory", "cpu,cpuacct", "pids"}}
	for i, m := range s.Mounts {
		in.Sources[i] = program.Source{Slot: m.Type == "bind", Dir: m.Type != "bind"}
	}
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := program.CompileContainer(in); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	median(b, took, "µs-to-compile", 100*time.Microsecond)
}
