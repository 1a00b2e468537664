package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestProperties(t *testing.T) {
	settings, err := v2Settings(&specs.LinuxResources{
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(75000)), Period: ptr(uint64(50000)), Cpus: "0-1,9", Mems: "0"},
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(100)), Swap: ptr(int64(150))},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(-1))},
		Unified: map[string]string{"memory.high": "90", "memory.oom.group": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got, newer []string
	for _, p := range properties(settings, 252) {
		got = append(got, fmt.Sprint(p.Name, "=", p.Value.Value()))
	}
	for _, p := range properties(settings, 257) {
		if text := fmt.Sprint(p.Name, "=", p.Value.Value()); !slices.Contains(got, text) {
			newer = append(newer, text)
		}
	}
	if !slices.Equal(newer, []string{"OOMPolicy=kill"}) {
		t.Errorf("a newer systemd gets %q more", newer)
	}
	want := []string{
		"CPUWeight=100", "AllowedCPUs=[3 2]", "AllowedMemoryNodes=[1]", "MemoryMax=100", "MemorySwapMax=50",
		"TasksMax=18446744073709551615", "MemoryHigh=90", "CPUQuotaPerSecUSec=1500000", "CPUQuotaPeriodUSec=50000",
	}
	if !slices.Equal(got, want) {
		t.Errorf("properties are\n%q, want\n%q", got, want)
	}
	if got := perSecond(limit("max"), 100000); got != limit("max") {
		t.Errorf("no quota is %d", got)
	}
}

func TestScopesStandInSlices(t *testing.T) {
	m := &Manager{base: t.Context()}
	tree, _ := fakeV2(t, nil)
	for _, p := range []string{"/a/berth-x.scope", "/a.slice/x", "/", "a.slice/x.scope"} {
		if _, err := m.Scope(tree, p, nil, 1); !errors.Is(err, ErrInvalidPath) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestRootScope: systemd knows a scope, keeps its limits over a reload, and has it no
// more when it was told of its end.
func TestRootScope(t *testing.T) {
	tree, parent, _ := realTree(t)
	m, err := ConnectSystemd(t.Context())
	if errors.Is(err, ErrNoSystemd) {
		t.Skip("systemd is not PID 1 here")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	slice := strings.ReplaceAll(path.Base(parent), "-", "") + ".slice"
	p, err := ContainerPath(Systemd, "/"+slice, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { systemctl(t, "stop", slice) }()
	holder := exec.Command("sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	limits := typical()
	limits.Unified = map[string]string{"memory.oom.group": "1"}
	g, err := m.Scope(tree, p, limits, holder.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Processes(); err != nil || !slices.Equal(pids, []int{holder.Process.Pid}) {
		t.Errorf("processes %v, %v", pids, err)
	}
	file, limit := "memory.max", int64(80<<20)
	if tree.Mode() == V1 {
		file = "memory.limit_in_bytes"
	}
	undo, err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}, CPU: &specs.LinuxCPU{Quota: ptr(int64(20000))}})
	if err != nil {
		t.Fatal(err)
	}
	if tree.Mode() == V2 {
		if got := content(t, g, "memory", "memory.oom.group"); got != "1" {
			t.Errorf("after an update: memory.oom.group is %s", got)
		}
	}
	systemctl(t, "daemon-reload")
	if got := content(t, g, "memory", file); got != itoa(limit) {
		t.Errorf("after an update and a reload: %s is %s", file, got)
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
	systemctl(t, "daemon-reload")
	if got := content(t, g, "memory", file); got != itoa(64<<20) {
		t.Errorf("after the update was taken back and a reload: %s is %s", file, got)
	}
	if tree.Mode() == V2 {
		if got := content(t, g, "cpu", "cpu.max"); got != "50000 100000" {
			t.Errorf("after a reload: cpu.max is %s", got)
		}
	}
	if _, err := m.Scope(tree, p, nil, 0); err != nil {
		t.Error("Scope of one that is there:", err)
	}
	if err := g.Kill(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	_ = holder.Wait()
	if err := g.Delete(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	if err := m.Gone(p); err != nil { // the kernel's notice may be lost
		t.Error(err)
	}
	if err := exec.Command("systemctl", "is-active", "--quiet", path.Base(p)).Run(); err == nil {
		t.Error("systemd still has the scope")
	}
}

func systemctl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		t.Errorf("systemctl %v: %v: %s", args, err, out)
	}
}

// TestNoSystemd: the error says what is missing.
func TestNoSystemd(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd is PID 1 here")
	}
	if _, err := ConnectSystemd(t.Context()); !errors.Is(err, ErrNoSystemd) {
		t.Errorf("error is %v", err)
	}
}
