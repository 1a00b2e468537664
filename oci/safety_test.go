package oci

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Attacks on a process amid its launch, which a test over the socket would have to win a race for. Those
// that need none are in test/safety.

// stopAfter makes a launch wait, once the step with the label is done, until the caller closes the pipe.
func stopAfter(t *testing.T, l *Launch, call program.Call) (goOn *os.File) {
	t.Helper()
	p := l.Program
	at := slices.IndexFunc(p.Steps, func(s program.Step) bool { return s.Call == call })
	if at < 0 {
		t.Fatalf("the program has no call %d:\n%s", call, p)
	}
	r, w := pipe(t)
	p.Slots = append(p.Slots, "wait")
	l.Files = append(l.Files, r)
	p.Data = append(p.Data, 0)
	p.Steps = slices.Insert(p.Steps, at+1, program.Step{Call: unix.SYS_READ, Label: "wait", Args: []program.Arg{
		{Kind: program.ArgSlot, Value: uint64(len(p.Slots) - 1)}, {Kind: program.ArgData, Value: uint64(len(p.Data) - 1)}, {Value: 1},
	}})
	return w
}

// CVE-2019-5736, CVE-2016-9962: a process that is amid joining a container is still a copy of the launcher. Others in
// there, with all capabilities of the container's user namespace, must not get at its memory, its
// binary, its descriptors or its root.
//
// The defence, made twice: the zygote that it is forked from is non-dumpable (launch, walk.go), and it makes
// itself so first (program, hide).
func TestRootLaunchCantBeLookedInto(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	kinds := []specs.LinuxNamespaceType{specs.UserNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	ns := podNamespaces(t, n, Pod{Namespaces: kinds, UIDs: ids, GIDs: ids})
	s := testSpec()
	s.Hostname, s.Process.Cwd = "", "/"
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	all := slices.Collect(func(yield func(string) bool) {
		for name := range n.caps {
			if !yield(name) {
				return
			}
		}
	})
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	s.Process.Args = []string{"probe", "spy"}
	dir := rootDir(t)
	root, _, err := mount.Bind(dir, program.MountOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	outR, outW := pipe(t)
	l, err := n.PrepareContainer(Container{Spec: s, Root: root, Stdout: outW, Namespaces: ns})
	if err != nil {
		t.Fatal(err)
	}
	pidfd := start(t, l).file(t)
	said := bufio.NewReader(outR)
	if line, err := said.ReadString('\n'); err != nil || line != "watching\n" {
		t.Fatalf("the spy says %q, %v", line, err)
	}

	p := *s.Process
	p.Args = []string{"probe", "0"}
	e, err := n.PrepareExec(Exec{Process: &p, Linux: s.Linux, PidFD: pidfd, UserNamespace: true})
	if err != nil {
		t.Fatal(err)
	}
	goOn := stopAfter(t, e, program.CallAdopt)
	done := make(chan error, 1)
	go func() { // ends with the launch
		_, _, err := runLaunch(t, e, nil, nil)
		done <- err
	}()
	line, err := said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	for _, what := range []string{"exe", "mem", "root", "fd", "environ", "maps"} {
		if got[what] != "permission denied" {
			t.Errorf("%s of a process amid its launch: %q", what, got[what])
		}
	}
	goOn.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// podNamespaces makes a pod's namespaces, which end with the test.
func podNamespaces(t testing.TB, n *Node, in Pod) map[specs.LinuxNamespaceType]*os.File {
	t.Helper()
	parent, child, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	in.Socket = child
	l, err := n.PreparePod(in)
	if err != nil {
		t.Fatal(err)
	}
	st, _, err := runLaunch(t, l, nil, nil)
	child.Close()
	if err != nil || st != 0 {
		t.Fatalf("pod: %v, status %v", err, st)
	}
	ns, err := ReceiveNamespaces(parent, in.Namespaces)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range ns {
			f.Close()
		}
	})
	return ns
}

// CVE-2025-52565: the terminal is swapped for something else before it is mounted on /dev/console, or what
// it is mounted on leads elsewhere.
//
// The defence: it is opened without links through a devpts that the image has not seen (program, console).
func TestRootConsoleCantBeRedirected(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	for _, tc := range []struct {
		name string
		lay  func(terminal string) error
		want error
	}{
		{"a link", func(terminal string) error { return os.Symlink("/proc/sys/kernel/core_pattern", terminal) }, unix.ELOOP},
		{"a file", func(terminal string) error { return os.WriteFile(terminal, nil, 0o666) }, unix.ENOTTY},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dev := t.TempDir()
			for _, err := range []error{os.Mkdir(dev+"/pts", 0o755), tc.lay(dev + "/pts/0"), os.WriteFile(dev+"/null", nil, 0o666)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			s := testSpec()
			term, err := NewTerminal(s.Mounts[2].Options)
			if err != nil {
				t.Fatal(err)
			}
			defer term.Close()
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Destination, "/dev") })
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "bind", Source: dev, Options: []string{"rbind"}})
			root, _, err := mount.Bind(rootDir(t), program.MountOptions{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			l, err := n.PrepareContainer(Container{Spec: s, Root: root, Terminal: term})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err = runLaunch(t, l, nil, nil); !errors.Is(err, tc.want) {
				t.Errorf("error %v, wanted %v", err, tc.want)
			}
		})
	}
}

// CVE-2025-52881: what the runtime writes to procfs, here sysctls, lands elsewhere, because the image or a volume has put a
// link or a mount in between.
//
// The defence: it is written through the mount of proc that the program itself made, without following
// links (program, sysctl), and volumes come before proc (program, mounts).
func TestRootProcWritesCantBeRedirected(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	dir, bait := rootDir(t), t.TempDir()
	for _, err := range []error{
		os.Symlink("/proc/sys/kernel", filepath.Join(dir, "bait")),
		os.MkdirAll(filepath.Join(dir, "proc/sys/kernel"), 0o755),
		os.WriteFile(filepath.Join(bait, "shmmni"), []byte("untouched"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := testSpec()
	s.Linux.Sysctl = map[string]string{"kernel.shmmni": "99"}
	s.Linux.ReadonlyPaths = nil
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/bait", Type: "bind", Source: bait, Options: []string{"rbind"}})
	s.Process.Args = []string{"probe", "cat", "/proc/sys/kernel/shmmni"}
	r, err := runContainer(t, n, Container{Spec: s}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.stderr != "99\n" {
		t.Errorf("the sysctl is %q, wanted 99", r.stderr)
	}
	if text, err := os.ReadFile(filepath.Join(bait, "shmmni")); string(text) != "untouched" {
		t.Errorf("the volume's file says %q: %v", text, err)
	}
}
