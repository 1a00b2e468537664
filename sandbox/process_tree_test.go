package sandbox

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	for text, want := range map[string]processStat{
		"12 (sh) S 3 12 12 0 -1": {'S', 3}, "12 (a) R 9 (b) Z 77 1": {'Z', 77}, "1 (x (y)) T 0 ": {'T', 0},
	} {
		if got, ok := parseStat(text); !ok || got != want {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "12", "12 (sh)", "12 (sh) S", "12 (sh) SS 3", "12 (sh) S x"} {
		if got, ok := parseStat(text); ok {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

// Those that are in sessions of their own die too, and a stranger doesn't.
func TestKillTree(t *testing.T) {
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	}()
	fd := -1
	cmd := exec.Command("sh", "-c", "setsid sh -c 'echo $$; sleep 60 & echo $!; wait' & sleep 60 & echo $!; echo done; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &fd}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := newProcess(cmd.Process.Pid, os.NewFile(uintptr(fd), "pidfd"))
	defer p.release()
	var pids []int
	for lines := bufio.NewScanner(out); len(pids) < 3 && lines.Scan(); {
		if pid, err := strconv.Atoi(strings.TrimSpace(lines.Text())); err == nil {
			pids = append(pids, pid)
		}
	}
	if err := p.killTree(t.Context()); err != nil {
		t.Error(err)
	}
	if p.alive() {
		t.Error("it is not awaited itself")
	}
	_ = cmd.Wait()
	for _, pid := range pids {
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			if s, ok := readStat(pid); !ok || s.state == 'Z' {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Errorf("process %d lives", pid)
				_ = unix.Kill(pid, unix.SIGKILL)
				break
			}
		}
	}
	if len(pids) != 3 || stranger.Process.Signal(syscall.Signal(0)) != nil {
		t.Errorf("%d processes, and a stranger was killed or not: %v", len(pids), stranger.ProcessState)
	}
	if err := p.killTree(t.Context()); err != nil {
		t.Errorf("of one that is gone: %v", err)
	}
}
