package oci

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

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
	s := testSpec()
	s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
	s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0"}
	s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	c := waiting(t, n, s)
	want := scheduled{unix.SCHED_BATCH, 7, 2<<13 | 6, "00000008", lookAt(t, os.Getpid()).processors}
	if got := lookAt(t, c.PID); got != want {
		t.Errorf("first process: %+v, want %+v", got, want)
	}
	pidfd := c.file(t)
	execR, execW := pipe(t)
	e, err := n.PrepareExec(Exec{Process: s.Process, Linux: s.Linux, PidFD: pidfd, Stdout: execW})
	if err != nil {
		t.Fatal(err)
	}
	pid := start(t, e).PID
	saysWaiting(t, execR)
	want.processors = "0"
	if got := lookAt(t, pid); got != want {
		t.Errorf("exec: %+v, want %+v", got, want)
	}
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
