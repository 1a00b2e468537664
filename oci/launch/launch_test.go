package launch

import (
	"errors"
	"testing"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// cstr appends a string to the program's data and returns an argument that points to it.
func cstr(p *program.Program, s string) program.Arg {
	at := len(p.Data)
	p.Data = append(append(p.Data, s...), 0)
	return program.Arg{Kind: program.ArgData, Value: uint64(at)}
}

// cvec appends a NULL-terminated vector of strings.
func cvec(p *program.Program, ss ...string) program.Arg {
	var offs []uint32
	for _, s := range ss {
		offs = append(offs, uint32(cstr(p, s).Value))
	}
	for len(p.Data)%8 != 0 {
		p.Data = append(p.Data, 0)
	}
	at := len(p.Data)
	for i, o := range offs {
		p.Pointers = append(p.Pointers, program.Pointer{At: uint32(at + 8*i), To: o})
	}
	p.Data = append(p.Data, make([]byte, 8*(len(ss)+1))...)
	return program.Arg{Kind: program.ArgData, Value: uint64(at)}
}

func imm(v uint64) program.Arg { return program.Arg{Value: v} }

func execStep(p *program.Program, argv ...string) program.Step {
	return program.Step{Call: unix.SYS_EXECVE, Args: []program.Arg{cstr(p, argv[0]), cvec(p, argv...), cvec(p, "A=b")}, Label: "execute " + argv[0]}
}

func newLauncher(t testing.TB) *Launcher {
	t.Helper()
	l := New(1)
	t.Cleanup(l.Close)
	return l
}

func run(t *testing.T, p *program.Program, files ...int) (unix.WaitStatus, error) {
	t.Helper()
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	q, err := program.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newLauncher(t).Start(q, files)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.PidFD)
	pid, werr := c.Wait()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	if pid != c.PID {
		var first unix.WaitStatus
		if _, err := unix.Wait4(c.PID, &first, 0, nil); err != nil || first != 0 {
			t.Fatalf("first process: %v, status %v", err, first)
		}
	}
	return ws, werr
}

func TestStartRunsToExecve(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	p.Steps = []program.Step{execStep(p, "/bin/sh", "-c", "exit 7")}
	ws, err := run(t, p)
	if err != nil || ws.ExitStatus() != 7 {
		t.Fatalf("exit %d, %v; want 7", ws.ExitStatus(), err)
	}
}

func TestStartReportsFailedStep(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	p.Steps = []program.Step{
		{Call: unix.SYS_GETPID, Result: 1},
		{Call: unix.SYS_CHDIR, Args: []program.Arg{cstr(p, "/does/not/exist")}, Label: "enter"},
		execStep(p, "/bin/true"),
	}
	ws, err := run(t, p)
	var se *StepError
	if !errors.As(err, &se) || se.Step != 1 || se.Errno != unix.ENOENT || ws.ExitStatus() != 127 {
		t.Fatalf("got %v, exit %d; want step 1 ENOENT, exit 127", err, ws.ExitStatus())
	}
}

func TestStepsSkipAndStore(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	missing := cstr(p, "/does/not/exist")
	fail := program.Step{Call: program.CallFail, Args: []program.Arg{imm(uint64(unix.EIO))}}
	p.Steps = []program.Step{
		// a fine errno skips the failing step behind it
		{Call: unix.SYS_CHDIR, Args: []program.Arg{missing}, Fine: []unix.Errno{unix.EACCES, unix.ENOENT}, OnFine: 1},
		fail,
		// success skips too
		{Call: unix.SYS_GETPID, OnOK: 1},
		fail,
		// a result reaches a register, and memory
		{Call: unix.SYS_DUP, Args: []program.Arg{imm(0)}, Result: 5, Store: 1},
		{Call: unix.SYS_CLOSE, Args: []program.Arg{{Kind: program.ArgReg, Value: 5}}},
		execStep(p, "/bin/true"),
	}
	if ws, err := run(t, p); err != nil || ws != 0 {
		t.Fatalf("status %v, %v", ws, err)
	}
}

func TestRequire(t *testing.T) {
	for value, fails := range map[uint64]bool{7: false, 8: true} {
		p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
		p.Steps = []program.Step{
			{Call: program.CallRequire, Args: []program.Arg{imm(7), imm(value), imm(uint64(unix.ECANCELED))}},
			execStep(p, "/bin/true"),
		}
		_, err := run(t, p)
		if errors.Is(err, unix.ECANCELED) != fails || (err != nil) != fails {
			t.Errorf("7 and %d: %v", value, err)
		}
	}
}

func TestChildHoldsOnlySlots(t *testing.T) {
	var extra [2]int
	if err := unix.Pipe2(extra[:], 0); err != nil { // inheritable on purpose
		t.Fatal(err)
	}
	defer unix.Close(extra[0])
	defer unix.Close(extra[1])
	var out [2]int
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(out[0])
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}, Slots: []string{"stdout"}}
	p.Steps = []program.Step{
		{Call: unix.SYS_DUP3, Args: []program.Arg{{Kind: program.ArgSlot, Value: 0}, imm(1), imm(0)}},
		execStep(p, "/bin/sh", "-c", "for f in /proc/self/fd/*; do echo ${f##*/}; done"),
	}
	ws, err := run(t, p, out[1])
	unix.Close(out[1])
	if err != nil || ws != 0 {
		t.Fatalf("status %v, %v", ws, err)
	}
	buf := make([]byte, 4096)
	n, _ := unix.Read(out[0], buf)
	// sh opens the directory by one descriptor of its own while it expands the pattern: 3, gone later
	if got := string(buf[:n]); got != "0\n1\n2\n3\n" && got != "0\n1\n2\n" {
		t.Fatalf("the child has descriptors %q", got)
	}
}

func TestAdoptedProcessIsOurChild(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	args := make([]byte, 88)
	for len(p.Data)%8 != 0 {
		p.Data = append(p.Data, 0)
	}
	at := uint64(len(p.Data))
	p.Data = append(p.Data, args...)
	p.Data[at+1] = unix.CLONE_PARENT >> 8 & 0xff
	p.Steps = []program.Step{
		{Call: unix.SYS_CLONE3, Args: []program.Arg{{Kind: program.ArgData, Value: at}, imm(88)}, Result: 1},
		{Call: program.CallAdopt, Args: []program.Arg{{Kind: program.ArgReg, Value: 1}}},
		execStep(p, "/bin/sh", "-c", "exit 9"),
	}
	ws, err := run(t, p)
	if err != nil || ws.ExitStatus() != 9 {
		t.Fatalf("exit %d, %v; want 9", ws.ExitStatus(), err)
	}
}

func TestGaps(t *testing.T) {
	got := gaps([]int{9, 3, 5, 4}, 0, 0)
	want := [][2]uintptr{{6, 8}, {10, 1<<32 - 1}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestStartRefusesWrongDescriptors(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}, Slots: []string{"root"}}
	l := newLauncher(t)
	if _, err := l.Start(p, nil); err == nil {
		t.Error("no descriptor for a slot: no error")
	}
	if _, err := l.Start(p, []int{1 << 20}); !errors.Is(err, unix.EBADF) {
		t.Errorf("a descriptor that isn't one: %v", err)
	}
}

func BenchmarkTrue(b *testing.B) {
	l := newLauncher(b)
	for b.Loop() {
		p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
		p.Steps = []program.Step{execStep(p, "/bin/true")}
		c, err := l.Start(p, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Wait(); err != nil {
			b.Fatal(err)
		}
		unix.Close(c.PidFD)
		if _, err := unix.Wait4(c.PID, nil, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}
