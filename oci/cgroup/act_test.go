package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestRootKill(t *testing.T) {
	tree, g := realGroup(t)
	defer remove(t, tree, g)
	// Children that survive their parent, ignore what can be ignored, and go on making others.
	cmd := exec.Command("sh", "-c", `read go; trap "" TERM; for i in 1 2 3 4 5; do (while :; do sleep 0.01 & sleep 0.01; done) & done; wait`)
	start(t, g, cmd)
	deadline := time.Now().Add(20 * time.Second)
	for pids := []int(nil); len(pids) < 8; {
		var err error
		if pids, err = g.Processes(); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %v are running", pids)
		}
		time.Sleep(time.Millisecond)
	}
	begun := time.Now()
	if err := g.Kill(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	t.Log("killed in", time.Since(begun))
	if err := cmd.Wait(); err == nil {
		t.Error("the shell was not killed")
	}
	if err := g.Delete(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	if err := g.Kill(within(t, time.Second)); err != nil {
		t.Error("Kill of a group that is gone:", err)
	}
}

// TestRootKillFrozen: what somebody froze is killed all the same, also in a group below.
func TestRootKillFrozen(t *testing.T) {
	tree, g := realGroup(t)
	defer remove(t, tree, g)
	below, err := tree.Create(g.Path()+"/below", nil)
	if err != nil {
		t.Fatal(err)
	}
	var commands []*exec.Cmd
	occupied := []*Group{g, below}
	if tree.Mode() == V2 {
		occupied = []*Group{below} // groups that give controllers on have no processes (cgroups(7))
	}
	for _, in := range occupied {
		cmd := exec.Command("sh", "-c", "read go; exec sleep 100")
		start(t, in, cmd)
		commands = append(commands, cmd)
	}
	file, frozen := filepath.Join(tree.controllerDir("freezer"), below.Path(), "freezer.state"), "FROZEN"
	if tree.Mode() == V2 {
		file, frozen = filepath.Join(tree.unified, below.Path(), "cgroup.freeze"), "1"
	}
	if err := os.WriteFile(file, []byte(frozen), 0); err != nil {
		t.Skip("this machine freezes nothing: ", err)
	}
	if err := g.Kill(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	for _, cmd := range commands {
		if err := cmd.Wait(); err == nil {
			t.Error("a command was not killed")
		}
	}
}

// TestRootCreateAfterKill: a group that was killed serves again.
func TestRootCreateAfterKill(t *testing.T) {
	tree, g := realGroup(t)
	defer remove(t, tree, g)
	for range 3 {
		cmd := exec.Command("sh", "-c", "read go; exec sleep 100")
		start(t, g, cmd)
		time.Sleep(10 * time.Millisecond)
		if pids, err := g.Processes(); err != nil || len(pids) != 1 {
			t.Errorf("processes are %v, %v", pids, err)
		}
		if err := g.Kill(within(t, 5*time.Second)); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the command was not killed")
		}
		var err error
		if g, err = tree.Create(g.Path(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRootDeleteOccupied(t *testing.T) {
	tree, g := realGroup(t)
	defer remove(t, tree, g)
	cmd := exec.Command("sh", "-c", "read go; exec sleep 100")
	start(t, g, cmd)
	err := g.Delete(within(t, 50*time.Millisecond))
	if !errors.Is(err, ErrStillOccupied) || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("error is %v", err)
	}
	if err := g.Kill(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

// TestRootDeleteChildren: a container may have made groups of its own.
func TestRootDeleteChildren(t *testing.T) {
	tree, g := realGroup(t)
	for _, dir := range tree.dirs() {
		if err := os.MkdirAll(filepath.Join(dir, g.Path(), "a/b"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, tree, g)
	if g.Exists() {
		t.Error("still there")
	}
}

func TestRootOOMKilled(t *testing.T) {
	tree, parent, _ := realTree(t)
	g, err := tree.Create(parent+"/c", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(24 << 20)), Swap: ptr(int64(24 << 20))}})
	if err != nil {
		t.Fatal(err)
	}
	defer remove(t, tree, g)
	if killed, err := g.OOMKilled(); err != nil || killed {
		t.Fatalf("before: %v, %v", killed, err)
	}
	// The shell waits to be in the group, then becomes this program again.
	cmd := exec.Command("sh", "-c", `read go; exec "$0"`, "/proc/"+strconv.Itoa(os.Getpid())+"/exe")
	cmd.Env = append(os.Environ(), "BERTH_TEST_EAT_MIB=200")
	start(t, g, cmd)
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Fatalf("the eater ended with %v", err)
	}
	if killed, err := g.OOMKilled(); err != nil || !killed {
		t.Errorf("after: %v, %v", killed, err)
	}
	remove(t, tree, g)
	if _, err := g.OOMKilled(); err == nil {
		t.Error("no error for a group that is gone")
	}
}

// TestRootUpdate walks limits up, down and away: each order of the writes is
// wrong for one of them.
func TestRootUpdate(t *testing.T) {
	tree, parent, _ := realTree(t)
	g, err := tree.Create(parent+"/c", typical())
	if err != nil {
		t.Fatal(err)
	}
	defer remove(t, tree, g)
	for _, mib := range []int64{64, 512, 32, 33, 1024, 16} {
		limit := mib << 20
		_, err := g.Update(&specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: &limit, Swap: ptr(limit + 1<<20)},
			CPU:    &specs.LinuxCPU{Quota: ptr(mib * 1000), Period: ptr(uint64(mib * 500))},
		})
		if err != nil {
			t.Fatalf("%d MiB: %v", mib, err)
		}
		file := "memory.limit_in_bytes"
		if tree.Mode() == V2 {
			file = "memory.max"
		}
		if got := content(t, g, "memory", file); got != itoa(limit) {
			t.Errorf("%d MiB: %s is %s", mib, file, got)
		}
	}
	if _, err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1)), Swap: ptr(int64(-1))}}); err != nil {
		t.Error("no limit:", err)
	}
	if _, err := g.Update(nil); err != nil {
		t.Error(err)
	}
	remove(t, tree, g)
	if _, err := g.Update(typical()); !errors.Is(err, errGone) {
		t.Errorf("Update of a group that is gone: %v", err)
	}
}

// TestRootUpdateBelowUsage: a limit that is lowered below what is in use fails,
// and nobody is killed for it.
func TestRootUpdateBelowUsage(t *testing.T) {
	tree, g := realGroup(t)
	defer remove(t, tree, g)
	cmd := exec.Command("sh", "-c", `read go; x=$(head -c 30000000 /dev/zero | tr '\0' x); echo ready; sleep 100; : not exec, which would give it back`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, g, cmd)
	var ready [5]byte
	if _, err := out.Read(ready[:]); err != nil {
		t.Fatal(err)
	}
	limit := int64(1 << 20)
	_, err = g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}})
	// On v1 the kernel tries to reclaim first, and succeeds where the machine swaps.
	if tree.Mode() == V2 && !errors.Is(err, ErrBelowUsage) {
		t.Errorf("error is %v", err)
	}
	if killed, _ := g.OOMKilled(); killed {
		t.Error("the kernel killed for it")
	}
	_ = g.Kill(within(t, 5*time.Second))
	_ = cmd.Wait()
}

func TestRootEnter(t *testing.T) {
	tree, parent, _ := realTree(t)
	g, err := tree.Create(parent+"/pod/c", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer remove(t, tree, g)
	cmd := exec.Command("sh", "-c", "read go; cat /proc/self/cgroup")
	out := &strings.Builder{}
	cmd.Stdout = out
	start(t, g, cmd)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	// No line may name another group, but for hierarchies that are not mounted.
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	in := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.HasSuffix(l, ":"+g.Path()) })
	if len(in) != len(tree.dirs()) {
		t.Errorf("in %d of %d hierarchies: %q", len(in), len(tree.dirs()), lines)
	}
	remove(t, tree, g)
	if procs, dir, err := g.Enter(); err == nil || procs != nil || dir != nil {
		t.Error("entered a group that is gone")
	}
}

func TestRootDevicesAct(t *testing.T) {
	tree, parent, warnings := realTree(t)
	r := typical()
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: false, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(5)), Access: "rwm"})
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(5)), Access: "r"})
	g, err := tree.Create(parent+"/c", r)
	if err != nil {
		t.Fatal(err)
	}
	defer remove(t, tree, g)
	for _, w := range *warnings {
		if w.Feature == "devices" {
			t.Skip("the node grants no device rules: ", w.Err)
		}
	}
	// 1:5 is zero: readable and no more; 1:3 is null: everything; 5:0 is tty: nothing.
	cmd := exec.Command("sh", "-c", `read go
	(: < /dev/zero) 2>/dev/null && echo zero-r; (: > /dev/zero) 2>/dev/null && echo zero-w; (: <> /dev/zero) 2>/dev/null && echo zero-rw
	(: <> /dev/null) && echo null-rw; (: < /dev/tty) 2>&1 | grep -o "not permitted"`)
	out, err := func() (string, error) {
		b := &strings.Builder{}
		cmd.Stdout = b
		start(t, g, cmd)
		err := cmd.Wait()
		return b.String(), err
	}()
	if got := strings.Join(strings.Fields(out), " "); got != "zero-r null-rw not permitted" {
		t.Errorf("allowed: %q (%v)", got, err)
	}
}
