package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

func stat(name, state string, code int) []byte {
	return fmt.Appendf(nil, "4711 (%s) %s %s %d\n", name, state, strings.TrimSpace(strings.Repeat("0 ", 48)), code)
}

func TestParseZombie(t *testing.T) {
	for name, c := range map[string]struct {
		stat []byte
		want syscall.WaitStatus
		ok   bool
	}{
		"exit 42":           {stat("sh", "Z", 42<<8), 42 << 8, true},
		"killed":            {stat("sh", "Z", 9), 9, true},
		"parentheses":       {stat(") Z 1 (", "Z", 7<<8), 7 << 8, true},
		"running":           {stat("sh", "S", 42<<8), 0, false},
		"too short":         {[]byte("1 (sh) Z 1 2 3"), 0, false},
		"no name":           {[]byte("garbage"), 0, false},
		"code of no number": {bytes.Replace(stat("sh", "Z", 5), []byte(" 5\n"), []byte(" x\n"), 1), 0, false},
		"name never closed": {[]byte("1 (sh Z 0"), 0, false},
		"nothing":           {nil, 0, false},
	} {
		if got, ok := parseZombie(c.stat); got != c.want || ok != c.ok {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
}

func FuzzParseZombie(f *testing.F) {
	f.Add(stat("sh", "Z", 1))
	f.Fuzz(func(t *testing.T, b []byte) { parseZombie(b) })
}

// A process of another parent: first a zombie that nobody reaped, then reaped.
func TestRootExitStatusOfAnothersChild(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command("/bin/sh", "-c", "exit 42")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(p, 5000); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if status, known := exitStatus(fd, cmd.Process.Pid); !known || status.ExitStatus() != 42 {
		t.Errorf("zombie: %v, %v", status, known)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("a zombie's status took %v", took)
	}
	_ = cmd.Wait() // exit status 42
	status, known := exitStatus(fd, cmd.Process.Pid)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(fd, &info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		if known {
			t.Errorf("status %v out of nowhere", status)
		}
		t.Skip("this kernel's pidfds don't tell exit codes (Linux 6.15)")
	}
	if !known || status.ExitStatus() != 42 {
		t.Errorf("reaped: %v, %v", status, known)
	}
}

func TestCarve(t *testing.T) {
	r := &wire.Record{Key: "k", HasProgram: true, Slots: 2, HasPidFD: true, Streams: []string{"a", "b"}, Journals: true, Relays: true, Logs: 2, Holds: []string{"h"}}
	fds := make([]int, r.Files())
	for i := range fds {
		fds[i] = 1000 + i
	}
	got := fmt.Sprint(*carve(r, fds))
	if want := "{1000 [1001 1002] 1003 [1004 1005] [1006 1007] [1008 1009] [1010 1011] [1012]}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := fmt.Sprint(*carve(&wire.Record{Key: "k"}, nil)); got != "{-1 [] -1 [] [] [] [] []}" {
		t.Errorf("empty record: %s", got)
	}
}

func TestFailure(t *testing.T) {
	step := &launch.StepError{Step: 3, Errno: syscall.ENOSPC}
	for _, c := range []struct {
		err  error
		want wire.Result
	}{
		{nil, wire.Result{}},
		{fmt.Errorf("x: %w", step), wire.Result{Code: wire.StepFailed, Step: 3, Errno: syscall.ENOSPC}},
		{fmt.Errorf("x: %w", syscall.EIO), wire.Result{Code: wire.Failed, Errno: syscall.EIO, Text: "x: input/output error"}},
		{errors.New("y"), wire.Result{Code: wire.Failed, Text: "y"}},
	} {
		if got := failure(c.err); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.err, got, c.want)
		}
	}
}

func TestEventLog(t *testing.T) {
	var b bytes.Buffer
	(&eventLog{w: &b}).event("log refuses", "container", "web", "error", errors.New(`a "bad" disk`))
	_, rest, _ := strings.Cut(b.String(), " ")
	if want := `msg="log refuses" container="web" error="a \"bad\" disk"` + "\n"; rest != want {
		t.Errorf("%q, want %q", rest, want)
	}
	(&eventLog{}).event("nowhere") // must not panic
}

func TestStraysAreBounded(t *testing.T) {
	s := newTable(nil)
	for i := range maxStrays {
		s.keepStray(i, death{at: 1})
	}
	s.keepStray(maxStrays, death{at: int64(time.Minute)})
	if len(s.strays) != 1 {
		t.Errorf("%d strays are kept", len(s.strays))
	}
}
