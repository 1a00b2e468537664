package launch

import (
	"errors"
	"testing"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// killing is a program that a signal ends before its execve.
func killing() *program.Program {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	p.Steps = []program.Step{
		{Call: unix.SYS_GETPID, Result: 1},
		{Call: unix.SYS_KILL, Args: []program.Arg{{Kind: program.ArgReg, Value: 1}, imm(uint64(unix.SIGKILL))}},
		execStep(p, "/bin/true"),
	}
	return p
}

// A child that a signal killed on its way did not get there, and one that its own program's signal killed did.
func TestDeathBeforeExecve(t *testing.T) {
	ws, err := run(t, killing())
	if !errors.Is(err, ErrDied) || ws.Signal() != unix.SIGKILL {
		t.Errorf("killed before its execve: %v, status %#x", err, ws)
	}
	for range 50 {
		if ws, err := run(t, shell("kill -9 $$")); err != nil || ws.Signal() != unix.SIGKILL {
			t.Fatalf("killed by its program: %v, status %#x", err, ws)
		}
	}
}

// Not every program ends in execve(2).
func TestArrivalByExecveat(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	s := execStep(p, "/bin/true")
	s.Call, s.Args = unix.SYS_EXECVEAT, append([]program.Arg{imm(0)}, append(s.Args, imm(0))...)
	p.Steps = []program.Step{s}
	if ws, err := run(t, p); err != nil || ws != 0 {
		t.Errorf("execveat: %v, status %#x", err, ws)
	}
}

// A program that executes nothing is through with its last step.
func TestArrivalWithoutExecve(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	p.Steps = []program.Step{{Call: unix.SYS_GETPID}}
	if ws, err := run(t, p); err != nil || ws != 0 {
		t.Errorf("no execve: %v, status %#x", err, ws)
	}
}

// Launches give their bytes back whatever came of them.
func TestArrivalsAreGivenBack(t *testing.T) {
	l := newLauncher(t)
	failing := shell("exit 0")
	failing.Steps = append([]program.Step{{Call: program.CallFail, Args: []program.Arg{imm(uint64(unix.EIO))}}}, failing.Steps...)
	for _, p := range []*program.Program{killing(), failing, shell("exit 0")} {
		for range 3 {
			c, err := l.Start(p, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Wait() // the others' tests say how it fares
			unix.Close(c.PidFD)
			if _, err := unix.Wait4(c.PID, nil, 0, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	wrong := shell("exit 0")
	wrong.Slots = []string{"file"}
	if _, err := l.Start(wrong, []int{1 << 20}); err == nil {
		t.Error("a descriptor that isn't one: no error")
	}
	for i, b := range l.sheets.arrivals() {
		if b != arrivalFree {
			t.Errorf("byte %d is %d", i, b)
		}
	}
}
