package oci

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it makes namespaces and mounts")
	}
}

func testNode(t testing.TB) *Node {
	t.Helper()
	n, err := Probe(func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// rootDir is a root file system with nothing but the probe and a few hostile links.
func rootDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.ReadFile(probeBinary)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(dir, 0o755)
	if err := os.WriteFile(filepath.Join(dir, "bin/probe"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// testSpec is about what sandbox/spec builds for a plain container.
func testSpec() *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_NET_RAW", "CAP_KILL"}
	return &specs.Spec{
		Hostname: "inside",
		Process: &specs.Process{
			Args: []string{"probe"}, Cwd: "/work/dir", Env: []string{"PATH=/sbin:/bin", "A=b"},
			User:         specs.User{UID: 0, GID: 0, AdditionalGids: []uint32{10, 20}},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}},
		},
		Root: &specs.Root{},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware", "/proc/no/such"},
			ReadonlyPaths: []string{"/proc/sys", "/proc/bus", "/proc/no/such"},
		},
	}
}

type ran struct {
	report
	status unix.WaitStatus
	stderr string
}

// runContainer runs a spec in a copy of the root directory and returns what its probe reported.
func runContainer(t testing.TB, n *Node, in Container, dir string) (ran, error) {
	t.Helper()
	root, _, err := mount.Bind(dir, program.MountOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	in.Root = root
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer outR.Close()
	in.Stdout, in.Stderr = outW, outW
	l, err := n.PrepareContainer(in)
	if err != nil {
		outW.Close()
		return ran{}, err
	}
	st, out, err := runLaunch(t, l, outR, outW)
	r := ran{status: st, stderr: out}
	if err == nil && strings.HasPrefix(out, "{") {
		if err := json.Unmarshal([]byte(out), &r.report); err != nil {
			t.Fatalf("report %q: %v", out, err)
		}
	}
	return r, err
}

func runLaunch(t testing.TB, l *Launch, outR, outW *os.File) (unix.WaitStatus, string, error) {
	t.Helper()
	wire, err := l.Program.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p, err := program.Unmarshal(wire)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newLauncher(t).Start(p, descriptors(l))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.PidFD)
	pid, werr := c.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	var out []byte
	if outW != nil {
		outW.Close()
		out, _ = io.ReadAll(outR)
	}
	var st unix.WaitStatus
	if _, err := unix.Wait4(pid, &st, 0, nil); err != nil {
		t.Fatal(err)
	}
	if pid != c.PID {
		unix.Wait4(c.PID, nil, 0, nil)
	}
	return st, string(out), l.Explain(werr)
}

func TestRootContainerSeesWhatTheSpecSays(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	r, err := runContainer(t, n, Container{Spec: testSpec()}, rootDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if r.status != 0 {
		t.Fatalf("exit status %v: %s", r.status, r.stderr)
	}
	want := map[string]any{"pid": 1, "uid": 0, "host": "inside", "cwd": "/work/dir", "session": true, "oom": "0"}
	got := map[string]any{"pid": r.PID, "uid": r.UID, "host": r.Hostname, "cwd": r.Cwd, "session": r.Session, "oom": r.OOM}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %v, want %v", k, got[k], v)
		}
	}
	if !slices.Equal(r.Groups, []int{10, 20}) || !slices.Equal(r.Env, []string{"PATH=/sbin:/bin", "A=b"}) {
		t.Errorf("groups %v, env %v", r.Groups, r.Env)
	}
	if !slices.Equal(r.FDs, []string{"0 /dev/null", "1 pipe", "2 pipe"}) {
		t.Errorf("descriptors %v", r.FDs)
	}
	if !strings.HasSuffix(r.Files, " 200") { // Go changes the soft one itself
		t.Errorf("limits of open files %s, want a hard one of 200", r.Files)
	}
	for k, v := range map[string]string{"CapEff": "0000000000002021", "CapPrm": "0000000000002021", "CapBnd": "0000000000002021",
		"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "0", "Umask": "0022"} {
		if r.Status[k] != v {
			t.Errorf("%s: %s, want %s", k, r.Status[k], v)
		}
	}
	for p, want := range map[string]string{"/proc/kcore": "0 bytes ok", "/sys/firmware": "0 entries ok", "/proc/scsi": "0 entries ok"} {
		if got := r.Masked[p]; got != want && !strings.Contains(got, "no such file") {
			t.Errorf("masked %s: %s", p, got)
		}
	}
	for p, want := range map[string]string{"/proc/sys/kernel/hostname": "read-only file system", "/newfile": "ok"} {
		if r.Readonly[p] != want {
			t.Errorf("writing %s: %s, want %s", p, r.Readonly[p], want)
		}
	}
	wantDev := []string{"core L---------", "fd L---------", "full Dc---------", "mqueue d---------", "null Dc---------", "ptmx L---------", "pts d---------",
		"random Dc---------", "stderr L---------", "stdin L---------", "stdout L---------", "tty Dc---------", "urandom Dc---------", "zero Dc---------"}
	if !slices.Equal(r.Dev, wantDev) {
		t.Errorf("/dev has %q", r.Dev)
	}
	for name, ns := range r.Namespaces {
		own, _ := os.Readlink("/proc/self/ns/" + name)
		if (ns == own) != (name == "user") {
			t.Errorf("namespace %s: %s, here %s", name, ns, own)
		}
	}
}

func TestRootContainerFailures(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
		want   string
	}{
		{"no command", func(s *specs.Spec) { s.Process.Args = []string{"nope"} }, `find executable "nope" in $PATH: no such file or directory`},
		{"no path", func(s *specs.Spec) { s.Process.Args = []string{"/bin/nope"} }, `execute "/bin/nope": no such file or directory`},
		{"missing source", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Source: "/does/not/exist", Type: "bind", Options: []string{"rbind"}})
		}, "mount on /data: open mount source /does/not/exist: no such file or directory"},
		{"over proc", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/self/x", Source: "/tmp", Type: "bind", Options: []string{"rbind"}})
		}, "mount on /proc/self/x: a volume must not cover /proc"},
		{"bad tmpfs option", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/cache", Type: "tmpfs", Options: []string{"size=nonsense"}})
		}, "mount tmpfs on /cache: invalid argument"},
		{"bad capability", func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_FLY"} }, `capability "CAP_FLY": unknown`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := testSpec()
			tc.change(s)
			_, err := runContainer(t, n, Container{Spec: s}, rootDir(t))
			if err == nil || err.Error() != tc.want {
				t.Fatalf("error %v, want %s", err, tc.want)
			}
		})
	}
}

// An image full of symlinks at the mount destinations: every mount must land inside the root.
func TestRootHostileSymlinksStayInside(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	dir := rootDir(t)
	outside := t.TempDir()
	for link, target := range map[string]string{"escape": "../../../../../../../.." + outside, "abs": outside, "loop/x": "../escape/deep"} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o755)
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	os.MkdirAll(filepath.Join(dir, outside), 0o755) // where the links lead inside the root
	src := t.TempDir()
	s := testSpec()
	for _, d := range []string{"/escape/a", "/abs/b/c", "/escape/file"} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: d, Source: src, Type: "bind", Options: []string{"rbind", "ro"}})
	}
	r, err := runContainer(t, n, Container{Spec: s}, dir)
	if err != nil || r.status != 0 {
		t.Fatalf("%v, status %v %s", err, r.status, r.stderr)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("on the host: %v", left)
	}
	var at []string
	for _, m := range r.Mounts {
		if strings.HasPrefix(m, outside) {
			at = append(at, strings.Fields(m)[0])
		}
	}
	want := []string{outside + "/a", outside + "/b/c", outside + "/file"}
	if !slices.Equal(at, want) {
		t.Errorf("mounts at %v, want %v", at, want)
	}
}

func TestRootProcAsSymlinkIsRefused(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	dir := rootDir(t)
	os.Remove(filepath.Join(dir, "proc"))
	os.Symlink("/etc", filepath.Join(dir, "proc"))
	_, err := runContainer(t, n, Container{Spec: testSpec()}, dir)
	if !errors.Is(err, unix.ELOOP) || !strings.Contains(err.Error(), "mount proc on /proc") {
		t.Fatalf("error %v, want ELOOP from mounting proc", err)
	}
}

func TestRootPodNamespacesAndExec(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	parent, child, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	kinds := []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace}
	pod, err := n.PreparePod(Pod{Namespaces: kinds, Hostname: "pod", Socket: child,
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmni": "77"}})
	if err != nil {
		t.Fatal(err)
	}
	st, _, err := runLaunch(t, pod, nil, nil)
	child.Close()
	if err != nil || st != 0 {
		t.Fatalf("pod: %v, status %v", err, st)
	}
	ns, err := ReceiveNamespaces(parent, kinds)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, f := range ns {
			f.Close()
		}
	}()
	s := testSpec()
	s.Hostname = ""
	r, err := runContainer(t, n, Container{Spec: s, Namespaces: ns}, rootDir(t))
	if err != nil || r.status != 0 {
		t.Fatalf("%v, status %v %s", err, r.status, r.stderr)
	}
	if r.Hostname != "pod" {
		t.Errorf("hostname %q", r.Hostname)
	}
	for kind, f := range map[string]*os.File{"net": ns[specs.NetworkNamespace], "ipc": ns[specs.IPCNamespace], "uts": ns[specs.UTSNamespace]} {
		want, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
		if r.Namespaces[kind] != want {
			t.Errorf("%s namespace %s, want %s", kind, r.Namespaces[kind], want)
		}
	}
}

func TestProcessesGetALimitOfOpenFiles(t *testing.T) {
	asked := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 6}}
	if got := withFiles(asked); !slices.Equal(got, asked) {
		t.Errorf("limits %v, asked for %v", got, asked)
	}
	got := withFiles([]specs.POSIXRlimit{{Type: "RLIMIT_CORE"}})
	if len(got) != 2 || got[1].Type != "RLIMIT_NOFILE" || got[1].Soft > softFiles || got[1].Hard < got[1].Soft {
		t.Errorf("limits without one: %v", got)
	}
}
