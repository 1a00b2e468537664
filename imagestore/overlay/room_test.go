package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/userns"
)

// bothWays tests with layers as the kernel takes them, and with layers that are attached in a room, which works on all.
func bothWays(t *testing.T, test func(*testing.T, *Mounter)) {
	t.Run("as the kernel has it", func(t *testing.T) {
		m := newMounter(t)
		t.Cleanup(m.Close)
		test(t, m)
	})
	t.Run("in a room", func(t *testing.T) { test(t, attaching(t)) })
}

// attaching is a Mounter as on a kernel that takes no detached mounts.
func attaching(t testing.TB) *Mounter {
	m := newMounter(t)
	m.apart.always = true
	t.Cleanup(m.Close)
	return m
}

func release(t *testing.T, m *Mounter, lowers ...Lower) {
	t.Helper()
	for _, lower := range lowers {
		if lower.Mount == nil {
			continue
		}
		if err := m.Release(lower.Mount); err != nil {
			t.Error(err)
		}
	}
}

// mountsIn are the lines of the mount table of the room's thread.
func mountsIn(t *testing.T, m *Mounter) []string {
	t.Helper()
	var thread int
	if err := m.apart.do(func(*room) error { thread = unix.Gettid(); return nil }); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(read(t, fmt.Sprintf("/proc/self/task/%d/mountinfo", thread))), "\n")
}

// TestRootRoomIsEmpty: a room has layers until they are released, and nothing else; the overlays that were made there stay.
func TestRootRoomIsEmpty(t *testing.T) {
	m := attaching(t)
	one, two := detached(t, "one", map[string]string{"a": "1"}), detached(t, "two", map[string]string{"b": "2"})
	root := t.TempDir()
	dirs := mkdirs(t, root, "layer", "upper", "work")
	o := Options{Lowers: []Lower{one, two, {Path: dirs[0]}}, Upper: dirs[1], Work: dirs[2], Users: userns.New(t, 100000), Base: root}
	mapped, err := m.Mount(o)
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	view, err := m.Mount(Options{Lowers: []Lower{one, two}})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if mounts := mountsIn(t, m); len(mounts) != 3 {
		t.Errorf("a room with two layers: %q", mounts)
	}
	before := mountsIn(t, m)
	o.Lowers = append(o.Lowers, Lower{Path: "/proc"})
	o.Base = "/"
	if _, err := m.Mount(o); err == nil || !strings.Contains(err.Error(), "/proc") {
		t.Errorf("a layer that can't be mapped: %v", err)
	}
	if mounts := mountsIn(t, m); len(mounts) != len(before) {
		t.Errorf("after a mount that failed: %q", mounts)
	}
	release(t, m, one, two)
	if mounts := mountsIn(t, m); len(mounts) != 1 {
		t.Errorf("a room without layers: %q", mounts)
	}
	for _, mount := range []*os.File{mapped, view} {
		if got := readAt(t, mount, "a") + readAt(t, mount, "b"); got != "12" {
			t.Errorf("read %q", got)
		}
	}
	if err := unix.Mkdirat(int(view.Fd()), "new", 0o755); err != unix.EROFS {
		t.Errorf("made a directory in a view: %v", err)
	}
}

// TestRootRoomEnds: without its Mounter the thread is gone, and layers are still closed.
func TestRootRoomEnds(t *testing.T) {
	m := attaching(t)
	lower := detached(t, "one", map[string]string{"a": "1"})
	bound, err := m.Bind(lower, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	m.Close()
	m.Close()
	if _, err := m.Bind(lower, nil); !errors.Is(err, errClosed) {
		t.Errorf("closed: %v", err)
	}
	release(t, m, lower)
	if got := readAt(t, bound, "a"); got != "1" {
		t.Errorf("read %q", got)
	}
}

// TestRootRoomLeavesPeers: a mount that appears below a copy that is in a room stays when that is detached.
func TestRootRoomLeavesPeers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	below := filepath.Join(dir, "below")
	mountShared(t, dir)
	r, err := newRoom()
	if err != nil {
		t.Fatal(err)
	}
	defer close(r.jobs)
	top, err := Lower{Path: dir}.clone(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	var at string
	if err := r.do(func() error { at, err = r.attach(top); return err }); err != nil {
		t.Fatal(err)
	}
	mountShared(t, below)
	if err := r.do(func() error { return r.detach(at) }); err != nil {
		t.Error(err)
	}
	if !strings.Contains(read(t, "/proc/self/mountinfo"), below) {
		t.Error("the mount is gone")
	}
}

// mountShared mounts a tmpfs for the time of the test.
func mountShared(t *testing.T, at string) {
	t.Helper()
	mkdirs(t, filepath.Dir(at), filepath.Base(at))
	if err := unix.Mount("berth", at, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", at, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
}

// TestRootRoomConcurrent: many mounts of the same layers at once.
func TestRootRoomConcurrent(t *testing.T) {
	m := attaching(t)
	lowers := []Lower{detached(t, "one", map[string]string{"a": "1"}), detached(t, "two", map[string]string{"b": "2"})}
	root := t.TempDir()
	var all sync.WaitGroup
	for i := range 20 {
		dirs := mkdirs(t, root, fmt.Sprint(i, "/upper"), fmt.Sprint(i, "/work"))
		all.Go(func() {
			file, err := m.Mount(Options{Lowers: lowers, Upper: dirs[0], Work: dirs[1], Volatile: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			if err := unix.Mkdirat(int(file.Fd()), "new", 0o755); err != nil {
				t.Errorf("make a directory: %v", err)
			}
		})
	}
	all.Wait()
	if mounts := mountsIn(t, m); len(mounts) != 1+len(lowers) {
		t.Errorf("mounts of %d layers: %q", len(lowers), mounts)
	}
}
