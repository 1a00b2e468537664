package cgroup

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestMain is also the program that the tests put into groups: it eats memory
// when asked to, and does nothing else that a shell could not.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("BERTH_TEST_EAT_MIB")); err == nil {
		var eaten [][]byte
		for range n {
			eaten = append(eaten, bytes.Repeat([]byte{1}, 1<<20))
		}
		fmt.Println(len(eaten))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// realTree is the machine's tree with a place of our own in it, which must be
// empty and is removed at the end.
func realTree(t testing.TB) (tree *Tree, parent string, warnings *[]Warning) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	warnings = &[]Warning{}
	tree, err := Detect("/sys/fs/cgroup", OnWarning(func(w Warning) { *warnings = append(*warnings, w) }))
	if errors.Is(err, ErrNoHierarchy) {
		t.Skip("this machine has no cgroup hierarchy: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:])
	parent = "/berth-test-" + hex.EncodeToString(random[:])
	t.Cleanup(func() {
		for _, dir := range tree.dirs() {
			if _, err := os.Stat(dir + parent); err == nil {
				t.Errorf("left behind: %s", dir+parent)
				_ = removeTree(t.Context(), dir+parent)
			}
		}
	})
	return tree, parent, warnings
}

// within is a context for what must not take long.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), d)
	t.Cleanup(cancel)
	return ctx
}

// realGroup is a group below realTree's parent. The test removes it.
func realGroup(t testing.TB) (*Tree, *Group) {
	t.Helper()
	tree, parent, _ := realTree(t)
	g, err := tree.Create(parent+"/c", nil)
	if err != nil {
		t.Fatal(err)
	}
	return tree, g
}

// remove deletes groups and prunes.
func remove(t testing.TB, tree *Tree, groups ...*Group) {
	t.Helper()
	for _, g := range groups {
		if err := g.Delete(within(t, 5*time.Second)); err != nil {
			t.Error(err)
		}
		if err := tree.Prune(g.Path()); err != nil {
			t.Error(err)
		}
	}
}

// start runs a command in the group.
func start(t testing.TB, g *Group, cmd *exec.Cmd) {
	t.Helper()
	procs, dir, err := g.Enter()
	if err != nil {
		t.Fatal(err)
	}
	if dir != nil {
		defer func() { _ = dir.Close() }()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	// The command waits for a line before it does anything, so that it is in all groups.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range procs {
		if _, err := f.WriteString(strconv.Itoa(cmd.Process.Pid)); err != nil {
			t.Errorf("enter %s: %v", f.Name(), err)
		}
		_ = f.Close()
	}
	_, _ = stdin.Write([]byte("go\n"))
	_ = stdin.Close()
}

func ptr[T any](v T) *T { return &v }

// typical are limits as kubelet sends them, with the device rules of a container.
func typical() *specs.LinuxResources {
	r := &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(100))},
		Devices: []specs.LinuxDeviceCgroup{
			{Allow: false, Access: "rwm"},
			{Allow: true, Type: "c", Major: ptr(int64(-1)), Minor: ptr(int64(-1)), Access: "m"},
			{Allow: true, Type: "b", Access: "m"},
		},
	}
	for minor := range int64(9) {
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(minor), Access: "rwm"})
	}
	return r
}

// content reads a file of the group's controller.
func content(t testing.TB, g *Group, controller, file string) string {
	t.Helper()
	dir := dirCache{group: g, fds: map[string]int{}}
	defer dir.close()
	fd, err := dir.open(controller)
	if err != nil {
		t.Fatal(controller, err)
	}
	text, err := readAt(fd, file)
	if err != nil {
		t.Fatal(file, err)
	}
	return text
}

func TestRootCreateAndDelete(t *testing.T) {
	tree, parent, warnings := realTree(t)
	g, err := tree.Create(parent+"/pod/c", typical())
	if err != nil {
		t.Fatal(err)
	}
	defer remove(t, tree, g)
	want := map[string][3]string{ // what → v1 or v2: controller, file, value
		"shares": {"cpu", "cpu.shares", "512"}, "quota": {"cpu", "cpu.cfs_quota_us", "50000"},
		"memory": {"memory", "memory.limit_in_bytes", "67108864"}, "pids": {"pids", "pids.max", "100"},
	}
	if tree.Mode() == V2 {
		want = map[string][3]string{
			"shares": {"cpu", "cpu.weight", "59"}, "quota": {"cpu", "cpu.max", "50000 100000"},
			"memory": {"memory", "memory.max", "67108864"}, "pids": {"pids", "pids.max", "100"},
		}
	}
	for what, w := range want {
		if got := content(t, g, w[0], w[1]); got != w[2] {
			t.Errorf("%s: %s is %q, want %q", what, w[1], got, w[2])
		}
	}
	if tree.Mode() == V1 {
		if got := content(t, g, "devices", "devices.list"); !strings.Contains(got, "c 1:3 rwm") || strings.Contains(got, "a *:*") {
			t.Errorf("devices.list is %q", got)
		}
		if content(t, g, "cpuset", "cpuset.cpus") == "" {
			t.Error("no CPUs: no process could enter")
		}
	}
	for _, w := range *warnings {
		t.Log("not granted here:", w.Feature, w.Err)
	}
	if err := g.Delete(within(t, time.Second)); err != nil {
		t.Error(err)
	}
	if g.Exists() {
		t.Error("still there")
	}
	if err := g.Delete(within(t, time.Second)); err != nil {
		t.Error("second Delete:", err)
	}
}

func TestRootCreateTwice(t *testing.T) {
	tree, g := realGroup(t)
	defer remove(t, tree, g)
	if _, err := tree.Create(g.Path(), &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(7))}}); err != nil {
		t.Fatal(err)
	}
	if got := content(t, g, "pids", "pids.max"); got != "7" {
		t.Errorf("pids.max is %q after the second Create", got)
	}
}

func TestRootRefusedLimitLeavesNothing(t *testing.T) {
	tree, parent, _ := realTree(t)
	_, err := tree.Create(parent+"/c", &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(1))}})
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), `"1" to cpu.`) {
		t.Errorf("error is %v, want EINVAL naming file and value", err)
	}
	if tree.Load(parent + "/c").Exists() {
		t.Error("the group is left behind")
	}
	if err := tree.Prune(parent + "/c"); err != nil {
		t.Error(err)
	}
}

// TestRootPrune: parents that berth made go, also for a new Tree (a daemon that
// was started again); those of others stay, and so do those in use.
func TestRootPrune(t *testing.T) {
	tree, parent, _ := realTree(t)
	kubelets := parent + "/kubelets"
	for _, dir := range tree.dirs() {
		if err := os.MkdirAll(dir+kubelets, 0o755); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = removeTree(within(t, time.Second), dir+parent) }()
	}
	a, err := tree.Create(kubelets+"/ours/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tree.Create(kubelets+"/ours/b", nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Detect("/sys/fs/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		group *Group
		ours  bool // whether /ours is still there afterwards
	}{{a, true}, {b, false}} {
		remove(t, again, step.group)
		if got := again.Load(kubelets + "/ours").Exists(); got != step.ours {
			t.Errorf("after %s: /ours exists: %v", step.group.Path(), got)
		}
		if !again.Load(kubelets).Exists() {
			t.Error("the parent that others made was removed")
		}
	}
	if err := again.Prune(a.Path()); err != nil {
		t.Error("second Prune:", err)
	}
}

// TestRootConcurrent makes and removes groups below the same parents, which come
// and go meanwhile.
func TestRootConcurrent(t *testing.T) {
	tree, parent, _ := realTree(t)
	done := make(chan error)
	for worker := range 4 {
		go func() {
			for i := range 25 {
				g, err := tree.Create(path.Join(parent, "pod", fmt.Sprintf("c%d-%d", worker, i)), nil)
				if err != nil {
					done <- err
					return
				}
				if err := errors.Join(g.Delete(within(t, 5*time.Second)), tree.Prune(g.Path())); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := tree.Prune(parent + "/pod"); err != nil {
		t.Error(err)
	}
}
