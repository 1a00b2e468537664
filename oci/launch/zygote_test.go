package launch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// exits starts a program on the launcher, and returns with which code it ended.
func exits(t *testing.T, l *Launcher, p *program.Program, files ...int) int {
	t.Helper()
	c, err := l.Start(p, files)
	if err != nil {
		t.Error(err)
		return -1
	}
	defer unix.Close(c.PidFD)
	if _, err := c.Wait(); err != nil {
		t.Error(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.PID, &ws, 0, nil); err != nil {
		t.Error(err)
	}
	return ws.ExitStatus()
}

func shell(script string) *program.Program {
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	p.Steps = []program.Step{execStep(p, "/bin/sh", "-c", script)}
	return p
}

func TestOneZygoteServesMany(t *testing.T) {
	l := newLauncher(t)
	for i := range 20 {
		if got := exits(t, l, shell(fmt.Sprintf("exit %d", i))); got != i {
			t.Errorf("exit %d, wanted %d", got, i)
		}
	}
	if len(l.idle) != 1 {
		t.Errorf("%d zygotes", len(l.idle))
	}
}

func TestLaunchesInParallel(t *testing.T) {
	l := New(3)
	t.Cleanup(l.Close)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if got := exits(t, l, shell(fmt.Sprintf("exit %d", i))); got != i {
				t.Errorf("exit %d, wanted %d", got, i)
			}
		})
	}
	wg.Wait()
	if n := len(l.idle); n < 1 || n > 3 {
		t.Errorf("%d zygotes", n)
	}
}

func TestKilledZygoteIsReplaced(t *testing.T) {
	l := newLauncher(t)
	exits(t, l, shell("exit 0"))
	first := l.idle[0].pid
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(first, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if got := exits(t, l, shell("exit 4")); got != 4 {
		t.Errorf("exit %d", got)
	}
	if l.idle[0].pid == first {
		t.Error("the dead one is still used")
	}
}

// A zygote that is killed before it has read the request has made no child: another is asked.
func TestZygoteKilledMeanwhile(t *testing.T) {
	l := newLauncher(t)
	exits(t, l, shell("exit 0"))
	z := l.idle[0]
	if err := unix.Kill(z.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	code := make(chan int)
	go func() { code <- exits(t, l, shell("exit 4")) }()
	for { // until the request is on its way
		var queued int
		queued, err := unix.IoctlGetInt(z.socket, unix.TIOCOUTQ)
		if err != nil {
			t.Fatal(err)
		}
		if queued > 0 {
			break
		}
	}
	if err := unix.Kill(z.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != 4 {
		t.Errorf("exit %d", got)
	}
	if got := exits(t, l, shell("exit 5")); got != 5 {
		t.Errorf("exit %d", got)
	}
}

// More descriptors than go with one message, and each is the right one.
func TestManyDescriptors(t *testing.T) {
	l := newLauncher(t)
	const n = 600
	p := &program.Program{Clone: program.Clone{Cgroup: program.NoSlot}}
	var files []int
	for i := range n {
		f, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(f)
		if _, err := unix.Write(f, []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		p.Slots = append(p.Slots, "f"+strconv.Itoa(i))
	}
	last := program.Arg{Kind: program.ArgSlot, Value: n - 1}
	p.Steps = []program.Step{
		{Call: unix.SYS_LSEEK, Args: []program.Arg{last}},
		{Call: unix.SYS_DUP3, Args: []program.Arg{last, imm(0), imm(0)}},
		execStep(p, "/bin/sh", "-c", `read -r n; test "$n" = 599`),
	}
	for range 2 { // the second time the numbers are free again
		if got := exits(t, l, p, files...); got != 0 {
			t.Errorf("exit %d: another descriptor than the last", got)
		}
	}
}

// A program of megabytes, as with a large environment; and that the next one is not mixed with it.
func TestLargeProgram(t *testing.T) {
	l := newLauncher(t)
	p := shell("exit 6")
	p.Data = append(p.Data, bytes.Repeat([]byte("x"), 8<<20)...)
	for _, want := range []int{6, 7, 6} {
		next := p
		if want == 7 {
			next = shell("exit 7")
		}
		if got := exits(t, l, next); got != want {
			t.Errorf("exit %d, wanted %d", got, want)
		}
	}
	p.Data = append(p.Data, make([]byte, areaSize)...)
	if _, err := l.Start(p, nil); !errors.Is(err, unix.E2BIG) {
		t.Errorf("a program that no zygote has room for: %v", err)
	}
}

// What the zygote doesn't drop costs every launch: a fork copies it and an execve takes it apart.
func TestZygoteIsSmall(t *testing.T) {
	ballast := bytes.Repeat([]byte("x"), 64<<20)
	l := newLauncher(t)
	exits(t, l, shell("exit 0"))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.idle[0].pid))
	if err != nil {
		t.Fatal(err)
	}
	if libc, err := os.ReadFile("/proc/self/maps"); err != nil || bytes.Contains(libc, []byte("/libc.")) {
		t.Logf("built with a libc: it keeps everything")
		return
	}
	kilobytes := map[string]int{}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) == 3 {
			kilobytes[f[0]], _ = strconv.Atoi(f[1])
		}
	}
	if got := kilobytes["RssAnon:"]; got == 0 || got > 1024 {
		t.Errorf("the zygote has %d KB of its own; this process %d MB", got, len(ballast)>>20)
	}
}

func TestZygoteEndsWithItsLauncher(t *testing.T) {
	l := New(1)
	exits(t, l, shell("exit 0"))
	pid := l.idle[0].pid
	l.Close()
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("zygote after Close: %v", err)
	}
}
