package imagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/userns"
)

func kubelets(first uint32) IDMap {
	r := []IDRange{{Inside: 0, Outside: first, Size: 65536}}
	return IDMap{UIDs: r, GIDs: r}
}

func owner(t testing.TB, path string) [2]uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return [2]uint32{st.Uid, st.Gid}
}

// TestRootMappedSnapshot: in a user namespace an image's files, of whatever layer, and the root belong to its users.
func TestRootMappedSnapshot(t *testing.T) {
	root, data := dir("./"), dir("data/")
	root.Mode, root.Uid, root.Gid = 0o1755, 3, 4
	data.Uid = 7
	layers := []v1.Layer{layerOf(t, root, data, f("data/a", "image's"))}
	for i := range 40 {
		layers = append(layers, layerOf(t, f(fmt.Sprintf("data/%d", i), "x")))
	}
	s, img := pulled(t, layers...)
	if err := s.PrepareMapped(t.Context(), "c1", img.ID, kubelets(300000)); err != nil {
		t.Fatal(err)
	}
	users := userns.New(t, 300000)
	for range 2 { // again, as after a start that failed
		mount, err := s.MountMapped("c1", users, "")
		if err != nil {
			t.Fatal(err)
		}
		at := attach(t, mount)
		mount.Close()
		for name, want := range map[string][2]uint32{"": {300003, 300004}, "data": {300007, 300000}, "data/a": {300000, 300000}, "data/39": {300000, 300000}, "proc": {300000, 300000}} {
			if got := owner(t, filepath.Join(at, name)); got != want {
				t.Errorf("%q belongs to %v, want %v", name, got, want)
			}
		}
		if st, err := os.Stat(at); err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o755 {
			t.Errorf("root is %v, %v", st.Mode(), err)
		}
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil { // for attach to take away
			t.Fatal(err)
		}
	}
	if err := s.RemoveSnapshot("c1"); err != nil {
		t.Fatal(err)
	}
}

// TestRootView: a view keeps its layers when the image goes, and is seen with the owners of whoever mounts it.
func TestRootView(t *testing.T) {
	for _, count := range []int{1, 3} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			layers := []v1.Layer{layerOf(t, f("a", "1"))}
			for i := 1; i < count; i++ {
				layers = append(layers, layerOf(t, f(fmt.Sprint(i), "x")))
			}
			s, img := pulled(t, layers...)
			for range 2 {
				if err := s.PrepareView(t.Context(), "c1-image-0", img.ID); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Remove(t.Context(), img.ID); err != nil {
				t.Fatal(err)
			}
			for _, users := range []*os.File{nil, userns.New(t, 400000)} {
				mount, err := s.mountSnapshot("c1-image-0", users, "")
				if err != nil {
					t.Fatal(err)
				}
				defer mount.Close() // both at once
				if got := readMounted(t, mount, "a"); got != "1" {
					t.Errorf("read %q", got)
				}
				if _, err := unix.Openat(int(mount.Fd()), "new", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600); err != unix.EROFS {
					t.Errorf("write: %v", err)
				}
				var st unix.Stat_t
				if err := unix.Fstatat(int(mount.Fd()), "a", &st, 0); err != nil || (st.Uid == 400000) != (users != nil) {
					t.Errorf("owner %d, %v", st.Uid, err)
				}
			}
			if err := s.RemoveSnapshot("c1-image-0"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.MountSnapshot("c1-image-0", ""); !errors.Is(err, ErrNotFound) {
				t.Errorf("after the removal: %v", err)
			}
			if left, err := os.ReadDir(filepath.Join(s.root, "layers")); err != nil || len(left) > 0 {
				t.Errorf("layers left: %v, %v", left, err)
			}
		})
	}
}

// TestViewsSurvive: views are found again by the next process.
func TestViewsSurvive(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	if err := s.PrepareView(t.Context(), "v", img.ID); err != nil {
		t.Fatal(err)
	}
	found, err := s.janitor.readSnapshots()
	if err != nil || found["v"] == nil || !found["v"].View || !slices.Equal(found["v"].Layers, img.layers) {
		t.Errorf("found %v, %v", found["v"], err)
	}
}

func TestRootCheckMapping(t *testing.T) {
	s := newTestStore(t)
	if err := s.CheckMapping(userns.New(t, 600000)); err != nil {
		t.Error(err)
	}
	if err := s.CheckMapping(os.Stdin); err == nil || !strings.Contains(err.Error(), s.root) {
		t.Errorf("what is no user namespace: %v", err)
	}
}

func TestOutside(t *testing.T) {
	ranges := []IDRange{{0, 1000, 10}, {20, 5000, 5}}
	for id, want := range map[uint32]uint32{0: 1000, 9: 1009, 10: 1000, 20: 5000, 24: 5004, 25: 1000, 1<<32 - 1: 1000} {
		if got := outside(ranges, id); got != want {
			t.Errorf("%d: %d, want %d", id, got, want)
		}
	}
}
