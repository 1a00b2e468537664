package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
}

// newMounter needs root.
func newMounter(t testing.TB) *Mounter {
	t.Helper()
	needRoot(t)
	m, err := NewMounter()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mkdirs(t testing.TB, root string, names ...string) []string {
	t.Helper()
	var paths []string
	for _, name := range names {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readAt(t testing.TB, mount *os.File, name string) string {
	t.Helper()
	fd, err := unix.Openat(int(mount.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 64)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// TestTakesLayers: only a kernel that knows "lowerdir+", and knows what it doesn't know, is given layers one by one.
func TestTakesLayers(t *testing.T) {
	refuses := func(known ...string) func(string, string) error {
		return func(key, _ string) error {
			if slices.Contains(known, key) {
				return nil
			}
			return unix.EINVAL
		}
	}
	for name, c := range map[string]struct {
		set  func(key, value string) error
		want bool
	}{
		"6.7, with it":                         {refuses("lowerdir", "lowerdir+"), true},
		"6.5, without":                         {refuses("lowerdir"), false},
		"6.1, where every word is taken first": {func(string, string) error { return nil }, false},
	} {
		if got := takesLayers(c.set); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestRootMountWays: both ways to mount give the same.
func TestRootMountWays(t *testing.T) {
	m := newMounter(t)
	for name, mount := range map[string]func(Options) (*os.File, error){"by pieces": m.mountByPieces, "by string": mountByString} {
		t.Run(name, func(t *testing.T) {
			if name == "by pieces" && !m.oneByOne {
				t.Skip("this kernel takes no lowerdir+ (Linux 6.7)")
			}
			root := t.TempDir()
			var lowers []string
			for i := range 200 {
				lower := mkdirs(t, root, fmt.Sprintf("%s/%d", strings.Repeat("l", 64), i))[0]
				write(t, filepath.Join(lower, fmt.Sprint(i)), "x")
				write(t, filepath.Join(lower, "top"), fmt.Sprint(i))
				lowers = append(lowers, lower)
			}
			dirs := mkdirs(t, root, "upper", "work")
			before := openFiles(t)
			file, err := mount(Options{Lowers: Directories(lowers...), Upper: dirs[0], Work: dirs[1], Volatile: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := readAt(t, file, "top") + readAt(t, file, "0") + readAt(t, file, "199"); got != "0xx" {
				t.Errorf("read %q", got)
			}
			fd, err := unix.Openat(int(file.Fd()), "new", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
			if _, err := os.Stat(filepath.Join(dirs[0], "new")); err != nil {
				t.Error(err)
			}
			file.Close()
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
			readOnly, err := mount(Options{Lowers: Directories(lowers[:2]...)})
			if err != nil {
				t.Fatal(err)
			}
			defer readOnly.Close()
			if _, err := unix.Openat(int(readOnly.Fd()), "no", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600); err != unix.EROFS {
				t.Errorf("write to a read-only mount: %v", err)
			}
			if mounts := read(t, "/proc/self/mountinfo"); strings.Contains(mounts, root) {
				t.Error("a mount is in the node's mount table")
			}
		})
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestRootMountAgain(t *testing.T) {
	m := newMounter(t)
	root := t.TempDir()
	dirs := mkdirs(t, root, "lower", "upper", "work")
	for range 2 {
		file, err := m.Mount(Options{Lowers: Directories(dirs[:1]...), Upper: dirs[1], Work: dirs[2], Volatile: true})
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
}

// TestRootMountLongPaths: paths that fsconfig doesn't take go the other way.
func TestRootMountLongPaths(t *testing.T) {
	m := newMounter(t)
	dirs := mkdirs(t, t.TempDir(), strings.Repeat("long/", 60)+"lower", "upper", "work")
	write(t, filepath.Join(dirs[0], "a"), "1")
	file, err := m.Mount(Options{Lowers: Directories(dirs[:1]...), Upper: dirs[1], Work: dirs[2]})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := readAt(t, file, "a"); got != "1" {
		t.Errorf("read %q", got)
	}
}

func TestRootMountErrors(t *testing.T) {
	m := newMounter(t)
	root := t.TempDir()
	dirs := mkdirs(t, root, "lower", "upper", "work")
	for name, o := range map[string]Options{
		"no lower":            {Upper: dirs[1], Work: dirs[2]},
		"one, read-only":      {Lowers: Directories(dirs[:1]...)},
		"upper without work":  {Lowers: Directories(dirs[:1]...), Upper: dirs[1]},
		"relative":            {Lowers: Directories("lower"), Upper: dirs[1], Work: dirs[2]},
		"missing":             {Lowers: Directories(root + "/none"), Upper: dirs[1], Work: dirs[2]},
		"work in the upper's": {Lowers: Directories(dirs[:1]...), Upper: dirs[1], Work: dirs[1]},
	} {
		if file, err := m.Mount(o); err == nil {
			file.Close()
			t.Errorf("%s: mounted", name)
		}
	}
	_, err := m.Mount(Options{Lowers: Directories(root + "/none"), Upper: dirs[1], Work: dirs[2]})
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), root+"/none") {
		t.Errorf("got %v", err)
	}
}

func TestRootBind(t *testing.T) {
	m := newMounter(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "1")
	file, err := m.Bind(Lower{Path: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := readAt(t, file, "a"); got != "1" {
		t.Errorf("read %q", got)
	}
	if _, err := unix.Openat(int(file.Fd()), "b", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600); err != unix.EROFS {
		t.Errorf("write: %v", err)
	}
	if _, err := m.Bind(Lower{Path: dir + "/none"}, nil); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}
