package leak

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes mounts, links, rules and cgroups")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mark is a name that only this test has, short enough for a link.
func mark() string { return "bl" + strings.ToLower(rand.Text()[:8]) }

// TestRootFindsEachKind leaks one thing of each kind, and cleans it up again.
func TestRootFindsEachKind(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		kind string
		make func(t *testing.T, name string) (undo func())
	}{
		{"mount", leakMount},
		{"namespace", leakNamespace},
		{"link", leakLink},
		{"rule", leakRule},
		{"cgroup", leakCgroup},
		{"process", leakProcess},
		{"file", leakFile},
	} {
		t.Run(c.kind, func(t *testing.T) {
			dir, name := t.TempDir(), mark()
			before, err := Take(dir)
			check(t, err)
			undo := c.make(t, filepath.Join(dir, name))
			after, err := Take(dir)
			if err != nil {
				undo()
				t.Fatal(err)
			}
			found := false
			for _, l := range Marked(after.Since(before), []string{name}) {
				found = found || l.Kind == c.kind
			}
			undo()
			if !found {
				t.Errorf("not found among %v", after.Since(before))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			left, err := Settle(ctx, before, func(l []Leak) []Leak { return Marked(l, []string{name}) }, dir)
			if err != nil || len(left) != 0 {
				t.Errorf("still there after its removal: %v, %v", left, err)
			}
		})
	}
}

func leakMount(t *testing.T, path string) func() {
	check(t, os.Mkdir(path, 0o755))
	check(t, unix.Mount("tmpfs", path, "tmpfs", 0, ""))
	return func() {
		check(t, unix.Unmount(path, 0))
		check(t, os.Remove(path))
	}
}

// leakNamespace has a process hold a namespace that it does not live in. Its own
// name is in what the leak says of the holder.
func leakNamespace(t *testing.T, path string) func() {
	c := exec.Command("/bin/sh", "-c", "exec 9</proc/self/ns/net; exec sleep 600 9<&9")
	c.Dir = filepath.Dir(path)
	c.Env = []string{"PATH=/bin:/usr/bin", "BERTH_TEST_NAME=" + filepath.Base(path)}
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread
	check(t, c.Start())
	waitExec(t, c, "sleep")
	return func() {
		check(t, c.Process.Kill())
		_ = c.Wait() // "signal: killed"
		runtime.UnlockOSThread()
	}
}

func waitExec(t *testing.T, c *exec.Cmd, name string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if who := describe(c.Process.Pid); strings.Contains(who, "["+name) {
			return
		}
	}
	t.Errorf("process %d never became %s", c.Process.Pid, name)
}

func leakLink(t *testing.T, path string) func() {
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: filepath.Base(path)}}
	check(t, netlink.LinkAdd(link))
	return func() { check(t, netlink.LinkDel(link)) }
}

func leakRule(t *testing.T, path string) func() {
	c, err := nftables.New()
	check(t, err)
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: filepath.Base(path)})
	chain := c.AddChain(&nftables.Chain{Name: "c", Table: table})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain})
	set := &nftables.Set{Table: table, Name: "s", KeyType: nftables.TypeInetService}
	check(t, c.AddSet(set, []nftables.SetElement{{Key: []byte{0, 80}}}))
	check(t, c.Flush())
	found, err := rules()
	check(t, err)
	var names []string
	for _, l := range Marked(found, []string{table.Name}) {
		names = append(names, strings.TrimPrefix(l.Name, "table inet "+table.Name))
	}
	for _, want := range []string{"", " chain c", " chain c handle ", " set s", " set s element 0050"} {
		if !strings.Contains("\n"+strings.Join(names, "\n")+"\n", "\n"+want) {
			t.Errorf("%q is not among %q", want, names)
		}
	}
	return func() {
		c.DelTable(table)
		check(t, c.Flush())
	}
}

func leakCgroup(t *testing.T, path string) func() {
	var hierarchy string
	for _, h := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/freezer"} { // v2, v1
		if _, err := os.Stat(filepath.Join(h, "cgroup.procs")); err == nil {
			hierarchy = h
		}
	}
	dir := filepath.Join(hierarchy, filepath.Base(path))
	check(t, os.Mkdir(dir, 0o755))
	return func() { check(t, unix.Rmdir(dir)) }
}

func leakProcess(t *testing.T, path string) func() {
	c := exec.Command("sleep", "600")
	c.Env = []string{"BERTH_TEST_NAME=" + filepath.Base(path)}
	check(t, c.Start())
	waitExec(t, c, "sleep")
	return func() {
		check(t, c.Process.Kill())
		_ = c.Wait() // "signal: killed"
	}
}

func leakFile(t *testing.T, path string) func() {
	check(t, os.WriteFile(path, nil, 0o644))
	return func() { check(t, os.Remove(path)) }
}

func TestSettleWaitsAndGivesUp(t *testing.T) {
	dir := t.TempDir()
	before, err := Take(dir)
	check(t, err)
	path := filepath.Join(dir, mark())
	check(t, os.WriteFile(path, nil, 0o644))
	keep := func(l []Leak) []Leak { return Marked(l, []string{path}) }
	short, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if left, err := Settle(short, before, keep, dir); err != nil || len(left) != 1 || left[0].Name != path {
		t.Errorf("a leak that stays: %v, %v", left, err)
	}
	long, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	time.AfterFunc(200*time.Millisecond, func() { _ = os.Remove(path) })
	if left, err := Settle(long, before, keep, dir); err != nil || len(left) != 0 {
		t.Errorf("a leak that goes: %v, %v", left, err)
	}
}
