package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fakeV2 is a tree of plain files, with the controllers that it is given and a
// group /pod/c that has these files.
func fakeV2(t *testing.T, controllers []string, files ...string) (*Tree, *[]string) {
	t.Helper()
	root := t.TempDir()
	group := filepath.Join(root, "pod", "c")
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		files = append(files, filepath.Join(group, f))
	}
	for _, dir := range []string{root, filepath.Join(root, "pod")} {
		files = append(files, filepath.Join(dir, "cgroup.subtree_control"))
	}
	for _, f := range files {
		if filepath.IsAbs(f) {
			if err := os.WriteFile(f, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	warned := &[]string{}
	return &Tree{
		mode: V2, unified: root, hierarchies: []hierarchy{{dir: root, controllers: controllers}},
		warned: map[string]bool{}, warn: func(w Warning) { *warned = append(*warned, w.Feature) },
	}, warned
}

func TestMissingFeatures(t *testing.T) {
	tree, warned := fakeV2(t, []string{"memory", "pids"}, "memory.max", "pids.max")
	r := typical()
	r.Devices = nil
	for range 3 {
		g, err := tree.Create("/pod/c", r)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, g, "memory", "memory.max"); got != "67108864" {
			t.Errorf("memory.max is %q", got)
		}
	}
	slices.Sort(*warned)
	// Each once, though three containers were made.
	if want := []string{"cpu.max", "cpu.weight", "memory.swap.max"}; !slices.Equal(*warned, want) {
		t.Errorf("warned of %v, want %v", *warned, want)
	}
	text, err := os.ReadFile(filepath.Join(tree.unified, "pod", "cgroup.subtree_control"))
	if err != nil || len(text) == 0 {
		t.Errorf("controllers of the parent: %q, %v", text, err)
	}
}

func TestUpdateBelowUsageV2(t *testing.T) {
	tree, _ := fakeV2(t, nil, "memory.max", "memory.current", "cpu.max")
	g := tree.Load("/pod/c")
	write := func(file, text string) {
		if err := os.WriteFile(filepath.Join(tree.unified, "pod/c", file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("memory.current", "5000\n")
	for limit, want := range map[int64]error{4999: ErrBelowUsage, 5000: nil, -1: nil} {
		if _, err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}); !errors.Is(err, want) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	// A period alone keeps the quota.
	write("cpu.max", "7000 10000")
	if _, err := g.Update(&specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(50000))}}); err != nil {
		t.Fatal(err)
	}
	if got := content(t, g, "cpu", "cpu.max"); got != "7000 50000" {
		t.Errorf("cpu.max is %q", got)
	}
}

func TestBadPaths(t *testing.T) {
	tree, _ := fakeV2(t, nil)
	for _, p := range []string{"", "/", "a", "/a/../b", "/a//b", "/a/.", "/a\x00"} {
		if _, err := tree.Create(p, nil); !errors.Is(err, ErrInvalidPath) {
			t.Errorf("Create %q: %v", p, err)
		}
		if err := tree.Prune(p); !errors.Is(err, ErrInvalidPath) {
			t.Errorf("Prune %q: %v", p, err)
		}
		g := tree.Load(p)
		_, listErr := g.Processes()
		_, _, enterErr := g.Enter()
		_, oomErr := g.OOMKilled()
		_, updateErr := g.Update(nil)
		for method, err := range map[string]error{
			"Delete": g.Delete(t.Context()), "Kill": g.Kill(t.Context()), "Update": updateErr, "Processes": listErr, "Enter": enterErr, "OOMKilled": oomErr,
		} {
			if !errors.Is(err, ErrInvalidPath) {
				t.Errorf("%s of %q: %v", method, p, err)
			}
		}
		if g.Exists() {
			t.Errorf("%q exists", p)
		}
	}
}

func TestDetectNothing(t *testing.T) {
	if _, err := Detect(t.TempDir()); !errors.Is(err, ErrNoHierarchy) {
		t.Errorf("error is %v", err)
	}
	if _, err := Detect(filepath.Join(t.TempDir(), "none")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error is %v", err)
	}
}
