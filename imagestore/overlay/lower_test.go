package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/fscontext"
	"github.com/berth-runtime/berth/test/userns"
)

// detached is a layer on a mount of its own, with a file of each name in content. It needs root.
func detached(t testing.TB, name string, content map[string]string) Lower {
	t.Helper()
	needRoot(t)
	fs, err := fscontext.Open("tmpfs")
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	mount, err := fs.Mount(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mount.Close() })
	lower := Lower{Path: "/layers/" + name, Mount: mount}
	for file, text := range content {
		write(t, filepath.Join(lower.Reach(), file), text)
	}
	return lower
}

// TestRootDetachedLowers: layers that are mounts, between others that are directories, as they are and through the mapping of a user
// namespace; they are the overlay's own once it is made.
func TestRootDetachedLowers(t *testing.T) { bothWays(t, testDetachedLowers) }

func testDetachedLowers(t *testing.T, m *Mounter) {
	for name, users := range map[string]*os.File{"as they are": nil, "mapped": userns.New(t, 100000)} {
		t.Run(name, func(t *testing.T) {
			shift := uint32(0)
			if users != nil {
				shift = 100000
			}
			root := t.TempDir()
			var lowers []Lower
			before := openFiles(t)
			for i := range 40 {
				lower := Lower{Path: mkdirs(t, root, fmt.Sprintf("layers/%d", i))[0]}
				if i%2 == 0 {
					lower = detached(t, fmt.Sprint(i), nil)
				}
				file := filepath.Join(lower.Reach(), fmt.Sprint(i))
				write(t, file, fmt.Sprint(i))
				write(t, filepath.Join(lower.Reach(), "top"), fmt.Sprint(i))
				if err := os.Chown(file, i, 2*i); err != nil {
					t.Fatal(err)
				}
				lowers = append(lowers, lower)
			}
			dirs := mkdirs(t, root, "upper", "work")
			overlay, err := m.Mount(Options{Lowers: lowers, Upper: dirs[0], Work: dirs[1], Volatile: true, Users: users, Base: root})
			if err != nil {
				t.Fatal(err)
			}
			defer overlay.Close()
			release(t, m, lowers...)
			wantOpen(t, before+1)
			for _, i := range []int{0, 7, 38} {
				if st := statAt(t, overlay, fmt.Sprint(i)); st.Uid != shift+uint32(i) || st.Gid != shift+uint32(2*i) {
					t.Errorf("file of user %d, group %d belongs to %d, %d", i, 2*i, st.Uid, st.Gid)
				}
			}
			if got := readAt(t, overlay, "top") + readAt(t, overlay, "38"); got != "038" {
				t.Errorf("read %q", got)
			}
			copyUp(t, overlay, "6", filepath.Join(dirs[0], "6"), [2]uint32{shift + 6, shift + 12})
			if err := unix.Unlinkat(int(overlay.Fd()), "38", 0); err != nil {
				t.Errorf("remove a layer's file: %v", err)
			}
		})
	}
}

// copyUp opens a layer's file to write, and wants it to stay what it was: its owner, its number and its device.
func copyUp(t *testing.T, overlay *os.File, name, upper string, owner [2]uint32) {
	t.Helper()
	before := statAt(t, overlay, name)
	fd, err := unix.Openat(int(overlay.Fd()), name, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Stat(upper, &st); err != nil || [2]uint32{st.Uid, st.Gid} != owner {
		t.Errorf("copied up: user %d, group %d, %v", st.Uid, st.Gid, err)
	}
	if after := statAt(t, overlay, name); after.Ino != before.Ino || after.Dev != before.Dev {
		t.Errorf("file %d on %x became %d on %x", before.Ino, before.Dev, after.Ino, after.Dev)
	}
}

// TestRootDetachedLongPaths: beside a layer on a mount, directories that fsconfig doesn't take by name are given by descriptor.
func TestRootDetachedLongPaths(t *testing.T) { bothWays(t, testDetachedLongPaths) }

func testDetachedLongPaths(t *testing.T, m *Mounter) {
	long := strings.Repeat("long/", 60)
	dirs := mkdirs(t, t.TempDir(), long+"lower", long+"upper", long+"work")
	write(t, filepath.Join(dirs[0], "a"), "1")
	lowers := append(Directories(dirs[0]), detached(t, "other", map[string]string{"b": "2"}))
	overlay, err := m.Mount(Options{Lowers: lowers, Upper: dirs[1], Work: dirs[2]})
	if err != nil {
		t.Fatal(err)
	}
	defer overlay.Close()
	if got := readAt(t, overlay, "a") + readAt(t, overlay, "b"); got != "12" {
		t.Errorf("read %q", got)
	}
}

// TestRootBindDetached: one layer that is a mount is seen by a mount of its own, read-only.
func TestRootBindDetached(t *testing.T) { bothWays(t, testBindDetached) }

func testBindDetached(t *testing.T, m *Mounter) {
	lower := detached(t, "one", map[string]string{"a": "1"})
	for name, users := range map[string]*os.File{"as it is": nil, "mapped": userns.New(t, 200000)} {
		bound, err := m.Bind(lower, users)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer bound.Close()
		if got := readAt(t, bound, "a"); got != "1" {
			t.Errorf("%s: read %q", name, got)
		}
		if st := statAt(t, bound, "a"); (st.Uid == 200000) != (users != nil) {
			t.Errorf("%s: owner %d", name, st.Uid)
		}
		if err := unix.Mkdirat(int(bound.Fd()), "new", 0o755); err != unix.EROFS {
			t.Errorf("%s: made a directory: %v", name, err)
		}
	}
	if err := unix.Mkdirat(int(lower.Mount.Fd()), "new", 0o755); err != nil {
		t.Errorf("the layer itself became read-only: %v", err)
	}
}

// TestRootDetachedErrors: kernels that can't say that they can't, and what a layer is called in an error.
func TestRootDetachedErrors(t *testing.T) { bothWays(t, testDetachedErrors) }

func testDetachedErrors(t *testing.T, m *Mounter) {
	lower := detached(t, "one", nil)
	dirs := mkdirs(t, t.TempDir(), "upper", "work")
	o := Options{Lowers: []Lower{lower}, Upper: dirs[0], Work: dirs[1]}
	if _, err := (&Mounter{}).Mount(o); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "6.7") {
		t.Errorf("a kernel without lowerdir+: %v", err)
	}
	if _, err := mountByString(o); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("by string: %v", err)
	}
	before := openFiles(t)
	o.Users, o.Base = os.Stdin, dirs[0]
	if _, err := m.Mount(o); err == nil {
		t.Error("mapped by what is no user namespace")
	}
	o.Users = nil
	o.Lowers = append(o.Lowers, Lower{Path: "/layers/two", Mount: os.Stdin})
	if _, err := m.Mount(o); err == nil || !strings.Contains(err.Error(), "/layers/two") {
		t.Errorf("a layer that is no directory: %v", err)
	}
	wantOpen(t, before)
}

// wantOpen wants so many descriptors, soon: mapped mounts are closed after their overlay is made.
func wantOpen(t testing.TB, want int) {
	t.Helper()
	got := openFiles(t)
	for deadline := time.Now().Add(5 * time.Second); got != want && time.Now().Before(deadline); got = openFiles(t) {
		time.Sleep(time.Millisecond)
	}
	if got != want {
		t.Errorf("%d descriptors, want %d", got, want)
	}
}
