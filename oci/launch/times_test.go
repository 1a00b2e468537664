package launch

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// timed runs a program to its end and returns its times.
func timed(t *testing.T, l *Launcher, p *program.Program) *Times {
	t.Helper()
	c, err := l.StartTimed(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.PidFD)
	if _, err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(c.PID, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	return c.Times()
}

// nap is a step that sleeps.
func nap(p *program.Program, d time.Duration) program.Step {
	for len(p.Data)%8 != 0 {
		p.Data = append(p.Data, 0)
	}
	at := uint64(len(p.Data))
	p.Data = append(p.Data, make([]byte, 16)...)
	for i := range 8 {
		p.Data[at+8+uint64(i)] = byte(d.Nanoseconds() >> (8 * i))
	}
	return program.Step{Call: unix.SYS_NANOSLEEP, Args: []program.Arg{{Kind: program.ArgData, Value: at}, imm(0)}}
}

func TestTimes(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	p.Steps = []program.Step{
		{Call: unix.SYS_GETPID},
		nap(p, 20*time.Millisecond),
		{Call: unix.SYS_GETPID, OnOK: 1},
		{Call: unix.SYS_GETPID}, // skipped
		execStep(p, "/bin/true"),
	}
	l := newLauncher(t)
	for range 3 { // the sheet is used again
		before := Now()
		got := timed(t, l, p)
		after := Now()
		if got == nil || len(got.Steps) != 5 {
			t.Fatalf("times: %+v", got)
		}
		if got.Steps[3] != 0 {
			t.Errorf("a skipped step began at %d", got.Steps[3])
		}
		last := before
		for _, at := range []int64{got.Ordered, got.Begun, got.Steps[0], got.Steps[1], got.Steps[2], got.Steps[4], got.Done, after} {
			if at < last {
				t.Errorf("not in order: %+v, before %d, after %d", got, before, after)
			}
			last = at
		}
		if slept := time.Duration(got.Steps[2] - got.Steps[1]); slept < 19*time.Millisecond || slept > 5*time.Second {
			t.Errorf("a sleep of 20 ms took %v", slept)
		}
	}
}

func TestTimesOfMoreStepsThanRoom(t *testing.T) {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	for range MaxTimed + 100 {
		p.Steps = append(p.Steps, program.Step{Call: unix.SYS_GETPID})
	}
	p.Steps = append(p.Steps, execStep(p, "/bin/true"))
	got := timed(t, newLauncher(t), p)
	if got == nil || len(got.Steps) != MaxTimed || got.Steps[MaxTimed-1] == 0 {
		t.Errorf("times: %+v", got)
	}
}

// More launches at once than there is room for are launched all the same.
func TestMoreLaunchesThanAreTimed(t *testing.T) {
	l := newLauncher(t)
	var gate [2]int
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(gate[0])
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}, Slots: []string{"gate"}, Data: make([]byte, 8)}
	p.Steps = []program.Step{
		{Call: unix.SYS_READ, Args: []program.Arg{{Kind: program.ArgSlot}, {Kind: program.ArgData}, imm(1)}},
		execStep(p, "/bin/true"),
	}
	var children []*Child
	for range sheetCount + 3 {
		c, err := l.StartTimed(p, []int{gate[0]})
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(c.PidFD)
		children = append(children, c)
	}
	unix.Close(gate[1])
	without := 0
	for _, c := range children {
		if _, err := c.Wait(); err != nil {
			t.Error(err)
		}
		if _, err := unix.Wait4(c.PID, nil, 0, nil); err != nil {
			t.Error(err)
		}
		if c.Times() == nil {
			without++
		}
	}
	if without != 3 || len(l.sheets.free) != sheetCount {
		t.Errorf("%d launches without times, %d of %d sheets are back", without, len(l.sheets.free), sheetCount)
	}
}

func TestUntimed(t *testing.T) {
	l := newLauncher(t)
	c, err := l.Start(shell("exit 0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.PidFD)
	if _, err := c.Wait(); err != nil || c.Times() != nil {
		t.Errorf("%v, %+v", err, c.Times())
	}
	_, _ = unix.Wait4(c.PID, nil, 0, nil)
}

// A start that fails gives back what it had of the sheets: one without a child, and one whose child is ended.
func TestFailedStartGivesBack(t *testing.T) {
	l := newLauncher(t)
	long := shell("exit 0")
	long.Data = append(long.Data, make([]byte, areaSize)...)
	unmapped := shell("exit 0")
	unmapped.Clone.Flags, unmapped.Clone.UIDMap = unix.CLONE_NEWUSER, "no map"
	for want, p := range map[error]*program.Program{unix.E2BIG: long, unix.EINVAL: unmapped} {
		if _, err := l.StartTimed(p, nil); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if n := len(l.sheets.free); n != sheetCount {
		t.Errorf("%d of %d sheets are back", n, sheetCount)
	}
	if taken := bytes.Count(l.sheets.arrivals(), []byte{arrivalAwaited}); taken != 0 {
		t.Errorf("%d arrivals are awaited", taken)
	}
}
