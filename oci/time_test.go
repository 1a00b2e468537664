package oci

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestRootTimeNamespace: a container's clocks are off by what the spec says, and so are those of an exec in it; PID 1 stays PID 1.
func TestRootTimeNamespace(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	s := testSpec()
	s.Domainname = "example.org"
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 3e8}, "boottime": {Secs: 5e8, Nanosecs: 7}}
	r, err := runContainer(t, n, Container{Spec: s}, rootDir(t))
	if err != nil || r.status != 0 {
		t.Fatalf("%v, status %v %s", err, r.status, r.stderr)
	}
	checkClocks(t, "the container", r.report)
	if r.PID != 1 || r.Domain != "example.org" || r.Hostname != "inside" {
		t.Errorf("pid %d, host %s, domain %s", r.PID, r.Hostname, r.Domain)
	}

	s.Process.Args = []string{"probe", "wait"}
	init := waiting(t, n, s).file(t)
	p := *s.Process
	p.Args, p.Cwd = []string{"probe"}, "/etc"
	execR, execW := pipe(t)
	e, err := n.PrepareExec(Exec{Process: &p, Linux: s.Linux, PidFD: init, Stdout: execW})
	if err != nil {
		t.Fatal(err)
	}
	st, out, err := runLaunch(t, e, execR, execW)
	if err != nil || st != 0 {
		t.Fatalf("exec: %v, status %v", err, st)
	}
	var in report
	if err := json.Unmarshal([]byte(out), &in); err != nil {
		t.Fatal(err)
	}
	checkClocks(t, "an exec", in)
}

func checkClocks(t *testing.T, what string, r report) {
	t.Helper()
	for clock, id := range map[string]int32{"monotonic": unix.CLOCK_MONOTONIC, "boottime": unix.CLOCK_BOOTTIME} {
		var here unix.Timespec
		if err := unix.ClockGettime(id, &here); err != nil {
			t.Fatal(err)
		}
		off := map[string]int64{"monotonic": 3e8, "boottime": 5e8}[clock]
		if got := r.Clocks[clock] - here.Sec; got < off-60 || got > off+1 {
			t.Errorf("the %s clock of %s is off by %d s, want %d", clock, what, got, off)
		}
	}
}
