package oci

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestRootExecJoinsTheContainer(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	s := testSpec()
	c := waiting(t, n, s)
	p := *s.Process
	p.Args = []string{"probe", "3"}
	p.User = specs.User{UID: 7, GID: 8}
	p.Cwd = "/etc"
	pidfd := c.file(t)
	execR, execW := pipe(t)
	e, err := n.PrepareExec(Exec{Process: &p, Linux: s.Linux, PidFD: pidfd, Stdout: execW})
	if err != nil {
		t.Fatal(err)
	}
	st, out, err := runLaunch(t, e, execR, execW)
	if err != nil || st.ExitStatus() != 3 {
		t.Fatalf("exec: %v, status %v", err, st.ExitStatus())
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.UID != 7 || r.GID != 8 || r.Cwd != "/etc" || r.Hostname != "inside" || r.PID == 1 || !r.Session {
		t.Errorf("uid %d gid %d cwd %s host %s pid %d session %v", r.UID, r.GID, r.Cwd, r.Hostname, r.PID, r.Session)
	}
	if !slices.Equal(r.FDs, []string{"0 /dev/null", "1 pipe", "2 /dev/null"}) {
		t.Errorf("descriptors %v", r.FDs)
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup"} {
		want, _ := os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/ns/" + ns)
		if r.Namespaces[ns] != want {
			t.Errorf("%s namespace %s, the container's is %s", ns, r.Namespaces[ns], want)
		}
	}
}

// A working directory that leads out by a leaked descriptor must not be entered (CVE-2024-21626).
func TestRootExecRefusesMagicLinkAsWorkingDirectory(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	dir := rootDir(t)
	for _, cwd := range []string{"/proc/self/fd/3", "/proc/self/cwd", "/proc/thread-self/root"} {
		s := testSpec()
		s.Process.Cwd = cwd
		root, _, err := mount.Bind(dir, program.MountOptions{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		l, err := n.PrepareContainer(Container{Spec: s, Root: root})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = runLaunch(t, l, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "enter the working directory "+cwd) {
			t.Errorf("%s: error %v", cwd, err)
		}
	}
}

func TestRootTerminal(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	s := testSpec()
	term, err := NewTerminal(s.Mounts[2].Options)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	root, _, err := mount.Bind(rootDir(t), program.MountOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	l, err := n.PrepareContainer(Container{Spec: s, Root: root, Terminal: term})
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, l)
	term.Slave.Close()
	term.Slave = nil
	line, err := bufio.NewReader(term.Master).ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if !r.Console {
		t.Error("the process has no terminal or console")
	}
	if !slices.Equal(r.FDs, []string{"0 /dev/pts/0", "1 /dev/pts/0", "2 /dev/pts/0"}) {
		t.Errorf("descriptors %v", r.FDs)
	}
	unix.Wait4(c.PID, nil, unix.WNOHANG, nil)
}

func TestRootPauseIsAloneInItsNamespace(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	sleep, err := os.Open(probeBinary)
	if err != nil {
		t.Fatal(err)
	}
	defer sleep.Close()
	l, err := n.PreparePause(Pause{Binary: sleep})
	if err != nil {
		t.Fatal(err)
	}
	// without a /proc the probe can report nothing: its exit status says that it ran, as PID 1
	st, _, err := runLaunch(t, l, nil, nil)
	if err != nil || st.ExitStatus() != 5 {
		t.Fatalf("%v, status %v", err, st)
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
