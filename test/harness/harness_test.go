package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// stage is a test under test: it remembers what it was told.
type stage struct {
	*testing.T
	mu       sync.Mutex
	errors   []string
	cleanups []func()
}

func (s *stage) Context() context.Context { return context.Background() }
func (s *stage) Cleanup(f func())         { s.cleanups = append(s.cleanups, f) }
func (s *stage) Error(args ...any)        { s.Errorf("%s", fmt.Sprint(args...)) }
func (s *stage) Logf(string, ...any)      {}

func (s *stage) Errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors = append(s.errors, fmt.Sprintf(format, args...))
}

func (s *stage) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.errors) > 0
}

func (s *stage) end() {
	for len(s.cleanups) > 0 {
		last := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		last()
	}
}

// TestRootLeaksFailATest leaks something of each sort that bears the daemon's name:
// the test must fail for each of it, and the machine be clean afterwards.
func TestRootLeaksFailATest(t *testing.T) {
	NeedRoot(t)
	s := &stage{T: t}
	d := Start(s, Options{})
	d.settle = time.Second // it would be waited for in vain
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: d.Name + "x"}}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	file := "/run/" + d.Name + "-left"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cgroups, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil || len(cgroups) == 0 {
		cgroups = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	cgroup := filepath.Join(filepath.Dir(cgroups[0]), d.CgroupParent[1:])
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "600")
	sleep.Env = []string{"BERTH_TEST_NAME=" + d.Name}
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { // ends with the process, which the harness kills
		_ = sleep.Wait()
		close(reaped)
	}()
	s.end()
	<-reaped
	said := strings.Join(s.errors, "\n")
	for _, want := range []string{"link", "file " + file, "cgroup " + cgroup, fmt.Sprintf("process %d ", sleep.Process.Pid)} {
		if !strings.Contains(said, "left behind: "+want) {
			t.Errorf("%q is not among what the test failed for:\n%s", want, said)
		}
	}
	if _, err := netlink.LinkByName(link.Name); err == nil {
		t.Errorf("link %s was not swept away", link.Name)
	}
	for _, path := range []string{file, cgroup, d.Dir} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s was not swept away: %v", path, err)
		}
	}
}

func TestRootCleanDaemonPasses(t *testing.T) {
	NeedRoot(t)
	s := &stage{T: t}
	d := Start(s, Options{})
	first := d.PID()
	d.Kill()
	d.Restart()
	if d.PID() == first || d.Keeper() == 0 {
		t.Errorf("after a restart: process %d, keeper %d", d.PID(), d.Keeper())
	}
	s.end()
	if s.Failed() {
		t.Errorf("a daemon that leaks nothing failed its test: %q", s.errors)
	}
}

func TestParseLine(t *testing.T) {
	l, err := parseLine("2026-11-21T05:24:04.886880179Z stderr P some text  with spaces ")
	if err != nil || l.Stream != "stderr" || l.Full || l.Text != "some text  with spaces " || l.Time.Nanosecond() != 886880179 {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := parseLine("2026-11-21T05:24:04Z stdout F "); err != nil || l.Text != "" || !l.Full {
		t.Errorf("an empty line: %+v, %v", l, err)
	}
	for _, bad := range []string{"", "text", "2026-11-21T05:24:04Z stdin F x", "2026-11-21T05:24:04Z stdout X x", "yesterday stdout F x", "2026-11-21T05:24:04Z stdout F"} {
		if l, err := parseLine(bad); err == nil {
			t.Errorf("%q is %+v", bad, l)
		}
	}
}
