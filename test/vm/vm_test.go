package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestLoadOrder(t *testing.T) {
	const text = "kernel/a/one-thing.ko.xz: kernel/b/near.ko kernel/b/far.ko\nkernel/b/near.ko: kernel/b/far.ko\nkernel/b/far.ko:\nkernel/c/other.ko:\n"
	got := loadOrder(text, []string{"near", "one_thing", "built_in"})
	if want := []string{"kernel/b/far.ko", "kernel/b/near.ko", "kernel/a/one-thing.ko.xz"}; !slices.Equal(got, want) {
		t.Errorf("order is %v, want %v", got, want)
	}
}

// TestRootMachine boots one, runs programs in it, and takes its power away: what was
// synced is there for the next one, and what was not is lost.
func TestRootMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("boots two virtual machines")
	}
	dir := t.TempDir()
	disk, tree := filepath.Join(dir, "disk.img"), filepath.Join(dir, "tree")
	boot := func() *Machine {
		m, err := Boot(t.Context(), Options{Tree: tree, At: "/given", Disks: []Disk{{disk, "/kept"}}})
		if errors.Is(err, ErrUnsupported) {
			t.Skip("needs root or another machine: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Kill)
		return m
	}
	if err := os.MkdirAll(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "file"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := NewDisk(disk, 64); err != nil {
		t.Fatal(err)
	}
	m := boot()
	out := run(t, m, 0, "cat /given/file; stat -fc %T /sys/fs/cgroup; echo one > /kept/synced; sync; echo two > /kept/not-synced")
	if out != "content\ncgroup2fs\n" {
		t.Errorf("it says %q", out)
	}
	run(t, m, 3, "exit 3")
	run(t, m, 128+9, "kill -9 $$")
	if err := m.Put(os.Args[0], "/kept/dir/program"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, m, 0, "stat -c '%s %a' /kept/dir/program"); out != fmt.Sprintf("%d %o\n", info.Size(), info.Mode().Perm()) {
		t.Errorf("what was put has size and mode %q", out)
	}
	go func() { // ends with the machine
		time.Sleep(time.Second)
		m.Kill()
	}()
	if err := m.Run(t.Context(), Command{Args: []string{"sleep", "600"}}); !errors.Is(err, ErrGone) {
		t.Errorf("a program whose machine goes: %v", err)
	}
	if out := run(t, boot(), 0, "cat /kept/synced /kept/not-synced 2>/dev/null; true"); out != "one\n" {
		t.Errorf("after the power was gone: %q", out)
	}
}

func run(t *testing.T, m *Machine, code int, script string) string {
	t.Helper()
	var out bytes.Buffer
	err := m.Run(t.Context(), Command{Args: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	var exit ExitError
	if err != nil && !errors.As(err, &exit) || int(exit) != code {
		t.Errorf("%s: %v, want exit code %d", script, err, code)
	}
	return out.String()
}
