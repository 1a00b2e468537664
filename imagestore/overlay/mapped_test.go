package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/userns"
)

func statAt(t testing.TB, mount *os.File, name string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstatat(int(mount.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return st
}

// TestRootMappedLayers: by both ways layers show the owners of a user namespace, what is copied up from them keeps those, and a
// removal of a layer's file works.
func TestRootMappedLayers(t *testing.T) {
	m := newMounter(t)
	users := userns.New(t, 100000)
	for name, mount := range map[string]func(Options) (*os.File, error){"by pieces": m.mountByPieces, "by string": mountByString} {
		t.Run(name, func(t *testing.T) {
			if name == "by pieces" && !kernel(t, 6, 15) {
				t.Skip("kernel before 6.15: overlayfs takes no layers of a detached mount")
			}
			root := t.TempDir()
			var lowers []string
			for i := range 60 {
				lower := mkdirs(t, root, fmt.Sprintf("layers/%d", i))[0]
				write(t, filepath.Join(lower, fmt.Sprint(i)), "x")
				if err := os.Chown(filepath.Join(lower, fmt.Sprint(i)), i, 2*i); err != nil {
					t.Fatal(err)
				}
				lowers = append(lowers, lower)
			}
			dirs := mkdirs(t, root, "upper", "work")
			file, err := mount(Options{Lowers: Directories(lowers...), Upper: dirs[0], Work: dirs[1], Volatile: true, Users: users, Base: root})
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			for _, i := range []int{0, 7, 59} {
				if st := statAt(t, file, fmt.Sprint(i)); st.Uid != uint32(100000+i) || st.Gid != uint32(100000+2*i) {
					t.Errorf("file of user %d, group %d belongs to %d, %d", i, 2*i, st.Uid, st.Gid)
				}
			}
			fd, err := unix.Openat(int(file.Fd()), "7", unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(dirs[0], "7"), &st); err != nil || st.Uid != 100007 || st.Gid != 100014 {
				t.Errorf("copied up: user %d, group %d, %v", st.Uid, st.Gid, err)
			}
			if err := unix.Unlinkat(int(file.Fd()), "59", 0); err != nil {
				t.Errorf("remove a layer's file: %v", err)
			}
			if mounts := read(t, "/proc/self/mountinfo"); strings.Contains(mounts, root) {
				t.Error("a mount is in the node's mount table")
			}
		})
	}
}

// kernel says whether this one is that version, or newer.
func kernel(t testing.TB, major, minor int) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var is [2]int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &is[0], &is[1]); err != nil {
		t.Fatal(err)
	}
	return is[0] > major || is[0] == major && is[1] >= minor
}

func TestRootMappedBind(t *testing.T) {
	m := newMounter(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "1")
	file, err := m.Bind(Lower{Path: dir}, userns.New(t, 200000))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if st := statAt(t, file, "a"); st.Uid != 200000 {
		t.Errorf("owner %d", st.Uid)
	}
	if _, err := m.Bind(Lower{Path: "/proc"}, userns.New(t, 200000)); err == nil || !strings.Contains(err.Error(), "/proc") || !strings.Contains(err.Error(), "idmapped") {
		t.Errorf("a file system that can't be mapped: %v", err)
	}
}

func TestMappedLayersOutsideTheBase(t *testing.T) {
	o := Options{Lowers: Directories("/a/b", "/c"), Users: os.Stdin, Base: "/a"}
	if err := o.check(); err == nil || !strings.Contains(err.Error(), "/c") {
		t.Errorf("error %v", err)
	}
}
