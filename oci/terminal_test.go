package oci

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestHostGIDs(t *testing.T) {
	options := []string{"nosuid", "mode=0620", "gid=5"}
	for _, c := range []struct {
		mappings []specs.LinuxIDMapping
		want     []string
	}{
		{nil, options},
		{[]specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 4}, {ContainerID: 4, HostID: 9000, Size: 10}}, []string{"nosuid", "mode=0620", "gid=9001"}},
		{[]specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 5}}, []string{"nosuid", "mode=0620"}},
	} {
		if got := hostGIDs(options, &specs.Linux{GIDMappings: c.mappings}); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %q", c.mappings, got)
		}
	}
}

func TestTerminalOfTheHost(t *testing.T) {
	term, err := TerminalFor(&specs.Spec{})
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("this machine has no /dev/ptmx")
	}
	if err != nil {
		t.Fatal(err)
	}
	if term.Devpts != nil {
		t.Error("it has a devpts of its own")
	}
	if _, err := term.Slave.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1)
	if _, err := io.ReadFull(term.Master, got); err != nil || got[0] != 'x' {
		t.Errorf("read %q, %v", got, err)
	}
	for range 2 {
		if err := term.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What a container puts in place of its /dev/pts gets no exec's terminal.
func TestJoinTerminalRefusesWhatIsNoDevpts(t *testing.T) {
	for name, put := range map[string]func(dev string) error{
		"nothing":     func(string) error { return nil },
		"a directory": func(dev string) error { return os.Mkdir(filepath.Join(dev, "pts"), 0o755) },
		"a link":      func(dev string) error { return os.Symlink("/proc/self/cwd", filepath.Join(dev, "pts")) },
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "dev"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := put(filepath.Join(dir, "dev")); err != nil {
			t.Fatal(err)
		}
		root, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if term, err := JoinTerminal(root); err == nil {
			term.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRootExecOnTerminal(t *testing.T) {
	needRoot(t)
	n := testNode(t)
	s := testSpec()
	c := waiting(t, n, s)
	inside, err := os.Open("/proc/" + strconv.Itoa(c.PID) + "/root")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	term, err := JoinTerminal(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	p := *s.Process
	p.Args, p.User = []string{"probe"}, specs.User{UID: 7, GID: 8}
	if err := term.GiveTo(&p, s.Linux); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(term.Slave.Fd()), &st); err != nil || st.Uid != 7 {
		t.Errorf("the terminal is user %d's, %v", st.Uid, err)
	}
	pidfd := c.file(t)
	e, err := n.PrepareExec(Exec{Process: &p, Linux: s.Linux, PidFD: pidfd, Terminal: term})
	if err != nil {
		t.Fatal(err)
	}
	if st, _, err := runLaunch(t, e, nil, nil); err != nil || st.ExitStatus() != 0 {
		t.Fatalf("exec: %v, status %v", err, st)
	}
	line, err := bufio.NewReader(term.Master).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if !slices.Equal(r.FDs, []string{"0 /dev/pts/0", "1 /dev/pts/0", "2 /dev/pts/0"}) || !r.Session {
		t.Errorf("descriptors %v, session %v", r.FDs, r.Session)
	}
}
