package oci

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// scheduled is what the kernel says of a process's main thread.
type scheduled struct {
	policy      uint32
	nice        int32
	io          uintptr
	personality string
	processors  string
}

func lookAt(t *testing.T, pid int) scheduled {
	t.Helper()
	attr, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	io, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	personality, err := os.ReadFile(fmt.Sprintf("/proc/%d/personality", pid))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "Cpus_allowed_list:\t")
	processors, _, _ := strings.Cut(rest, "\n")
	return scheduled{attr.Policy, attr.Nice, io, strings.TrimSpace(string(personality)), processors}
}

// TestRootScheduling: the first process and an exec get what the spec says, and only the exec its processors.
func TestRootScheduling(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	root, _, err := mount.Bind(rootDir(t), program.MountOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := testSpec()
	s.Process.Args = []string{"probe", "wait"}
	s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
	s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0"}
	s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	outR, outW := pipe(t)
	l, err := n.PrepareContainer(Container{Spec: s, Root: root, Stdout: outW})
	if err != nil {
		t.Fatal(err)
	}
	waiting := func(r *os.File) {
		t.Helper()
		if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "waiting\n" {
			t.Fatalf("the process says %q, %v", line, err)
		}
	}
	c := start(t, l)
	waiting(outR)
	want := scheduled{unix.SCHED_BATCH, 7, 2<<13 | 6, "00000008", lookAt(t, os.Getpid()).processors}
	if got := lookAt(t, c.PID); got != want {
		t.Errorf("first process: %+v, want %+v", got, want)
	}
	pidfd := os.NewFile(uintptr(dup(t, c.PidFD)), "process")
	defer pidfd.Close()
	execR, execW := pipe(t)
	e, err := n.PrepareExec(Exec{Process: s.Process, Linux: s.Linux, PidFD: pidfd, Stdout: execW})
	if err != nil {
		t.Fatal(err)
	}
	pid := startExec(t, e)
	waiting(execR)
	want.processors = "0"
	if got := lookAt(t, pid); got != want {
		t.Errorf("exec: %+v, want %+v", got, want)
	}
}

// startExec launches an exec and leaves it running; the test's end kills it.
func startExec(t *testing.T, l *Launch) int {
	t.Helper()
	fds := make([]int, len(l.Files))
	for i, f := range l.Files {
		fds[i] = int(f.Fd())
	}
	c, err := newLauncher(t).Start(l.Program, fds)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.PidFD)
	pid, err := c.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	unix.Wait4(c.PID, nil, 0, nil)
	if err != nil {
		t.Fatal(l.Explain(err))
	}
	t.Cleanup(func() {
		unix.Kill(pid, unix.SIGKILL)
		unix.Wait4(pid, nil, 0, nil)
	})
	return pid
}

// A processor that the machine has not is told by the kernel, with the step's name.
func TestRootAffinityToNoProcessor(t *testing.T) {
	needRoot(t)
	if runtime.NumCPU() > 8000 {
		t.Skip("this machine has them all")
	}
	n := testNode(t)
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	pidfd := os.NewFile(uintptr(self), "process")
	defer pidfd.Close()
	e, err := n.PrepareExec(Exec{Process: &specs.Process{Args: []string{"true"}, Cwd: "/", ExecCPUAffinity: &specs.CPUAffinity{Final: "8000"}}, PidFD: pidfd})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = runLaunch(t, e, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "take the final processors 8000: invalid argument") {
		t.Errorf("error %v", err)
	}
}
