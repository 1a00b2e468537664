package imagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// pulled is a store with one image of those layers.
func pulled(t testing.TB, layers ...v1.Layer) (*Store, *Image) {
	t.Helper()
	s := newTestStore(t)
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layers...))
	return s, mustPull(t, s, ref(host, "app"))
}

// attach mounts a detached mount at a directory for the time of the test.
func attach(t testing.TB, mount *os.File) string {
	t.Helper()
	at := t.TempDir()
	if err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

func TestRootSnapshot(t *testing.T) {
	base := dir("data/")
	base.Mode, base.Uid = 0o1777, 7
	root := dir("./")
	root.Mode, root.Gid = 0o711, 9
	s, img := pulled(t, layerOf(t, root, base, f("data/a", "image's")), layerOf(t, f("data/b", "x")))
	for range 2 { // a second call is a success
		if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
			t.Fatal(err)
		}
	}
	mount, err := s.MountSnapshot("c1", "")
	if err != nil {
		t.Fatal(err)
	}
	at := attach(t, mount)
	mount.Close()
	if st, err := os.Stat(at); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("root: %v, %v", st.Mode(), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(at, "data"), &st); err != nil || st.Mode&0o7777 != 0o1777 || st.Uid != 7 {
		t.Errorf("a layer without an entry for data changed it: mode %o, owner %d, %v", st.Mode, st.Uid, err)
	}
	if err := os.WriteFile(filepath.Join(at, "data/a"), []byte("container's"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.PrepareSnapshot(t.Context(), "c2", img.ID); err != nil {
		t.Fatal(err)
	}
	second, err := s.MountSnapshot("c2", "")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if got := readMounted(t, second, "data/a"); got != "image's" {
		t.Errorf("the other container reads %q", got)
	}
	keys, err := s.Snapshots()
	if err != nil || !slices.Equal(keys, []string{"c1", "c2"}) {
		t.Errorf("snapshots %v, %v", keys, err)
	}
	for range 2 {
		if err := s.RemoveSnapshot("c1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.MountSnapshot("c1", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestRootSnapshotAgain: after its mount is gone a snapshot can be mounted again, with what was written.
func TestRootSnapshotAgain(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		mount, err := s.MountSnapshot("c1", "")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Openat(int(mount.Fd()), fmt.Sprint(i), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		if _, err := statMounted(t, mount, "0"); err != nil {
			t.Error(err)
		}
		mount.Close()
	}
}

func TestRootSnapshotErrors(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	host := serve(t, nil)
	push(t, ref(host, "other"), imageOf(t, layerOf(t, f("b", "1"))))
	other := mustPull(t, s, ref(host, "other"))
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key, image string
		want       error
	}{
		{"c1", other.ID, ErrExists}, {"c2", "sha256:" + strings.Repeat("0", 64), ErrNotFound}, {"", img.ID, ErrInvalidKey},
		{"../c2", img.ID, ErrInvalidKey}, {".c2", img.ID, ErrInvalidKey}, {"a/b", img.ID, ErrInvalidKey}, {strings.Repeat("k", 200), img.ID, ErrInvalidKey},
	} {
		if err := s.PrepareSnapshot(t.Context(), test.key, test.image); !errors.Is(err, test.want) {
			t.Errorf("%q: %v", test.key, err)
		}
	}
	if err := s.RemoveSnapshot("never"); err != nil {
		t.Error(err)
	}
}

// TestRootSnapshotKeepsLayers: the image may go while its containers stay.
func TestRootSnapshotKeepsLayers(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")), layerOf(t, f("b", "2")))
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), img.ID); err != nil {
		t.Fatal(err)
	}
	wantClean(t, s, 2)
	root, cfg := s.root, s.cfg
	s.Close()
	s = openStore(t, root, cfg)
	wantClean(t, s, 2)
	mount, err := s.MountSnapshot("c1", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := readMounted(t, mount, "a") + readMounted(t, mount, "b"); got != "12" {
		t.Errorf("read %q", got)
	}
	mount.Close()
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("prepared of a removed image: %v", err)
	}
	if err := s.RemoveSnapshot("c1"); err != nil {
		t.Fatal(err)
	}
	wantClean(t, s, 0)
}

func TestRootSnapshotsAtOnce(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	var group sync.WaitGroup
	for range 20 { // the same key: all succeed
		group.Go(func() {
			if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	wantClean(t, s, 1)
}

func TestRootMountImage(t *testing.T) {
	for name, layers := range map[string][]v1.Layer{
		"one layer":  {layerOf(t, f("a", "1"))},
		"two layers": {layerOf(t, f("a", "0")), layerOf(t, f("a", "1"))},
	} {
		t.Run(name, func(t *testing.T) {
			s, img := pulled(t, layers...)
			mount, err := s.MountImage(img.ID)
			if err != nil {
				t.Fatal(err)
			}
			defer mount.Close()
			if got := readMounted(t, mount, "a"); got != "1" {
				t.Errorf("read %q", got)
			}
			at := attach(t, mount)
			if err := os.WriteFile(filepath.Join(at, "b"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("write: %v", err)
			}
		})
	}
}

// TestRootManyLayers: more than one page of options, or one string of fsconfig, could name.
func TestRootManyLayers(t *testing.T) {
	var layers []v1.Layer
	for i := range 150 {
		layers = append(layers, layerOf(t, f(fmt.Sprintf("d/f%d", i), "x"), f("last", fmt.Sprint(i))))
	}
	s, img := pulled(t, layers...)
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	mount, err := s.MountSnapshot("c1", "")
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	if got := readMounted(t, mount, "d/f0") + readMounted(t, mount, "d/f149") + readMounted(t, mount, "last"); got != "xx149" {
		t.Errorf("read %q", got)
	}
}

// TestRootOpaqueRoot: overlayfs doesn't look at the mark on a layer's root, so the layers below aren't stacked at all.
func TestRootOpaqueRoot(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("below", "1")), layerOf(t, f(".wh..wh..opq", ""), f("here", "2")), layerOf(t, f("above", "3")))
	mount, err := s.MountImage(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	if got := readMounted(t, mount, "here") + readMounted(t, mount, "above"); got != "23" {
		t.Errorf("read %q", got)
	}
	if _, err := statMounted(t, mount, "below"); err != unix.ENOENT {
		t.Errorf("what is below shows: %v", err)
	}
}

func TestRootWhiteoutsMounted(t *testing.T) {
	s, img := pulled(t,
		layerOf(t, f("file", "1"), f("dir/a", "1"), f("dir/b", "1"), f("opaque/a", "1"), f("swapped/old", "1"), f("kept/a", "1")),
		layerOf(t, f(".wh.file", ""), f("dir/.wh.a", ""), f("opaque/.wh..wh..opq", ""), f("opaque/b", "2"), f(".wh.swapped", ""), f("swapped/new", "2")))
	mount, err := s.MountImage(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	for name, there := range map[string]bool{"file": false, "dir/a": false, "dir/b": true, "opaque/a": false, "opaque/b": true,
		"swapped/old": false, "swapped/new": true, "kept/a": true} {
		if _, err := statMounted(t, mount, name); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRootUsage(t *testing.T) {
	s := newTestStore(t)
	usage := func() Usage {
		t.Helper()
		s.meter.mu.Lock()
		s.meter.next, s.meter.ended = time.Time{}, time.Time{}
		s.meter.mu.Unlock()
		u, err := s.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	empty := usage()
	if empty.Mountpoint != s.root {
		t.Errorf("mountpoint %s", empty.Mountpoint)
	}
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", strings.Repeat("x", 1<<20)))))
	img := mustPull(t, s, ref(host, "app"))
	full := usage()
	if grown := full.Bytes - empty.Bytes; grown < 1<<20 || grown > 1<<20+64<<10 {
		t.Errorf("grown by %d bytes", grown)
	}
	inodes := map[string]uint64{formatDirectory: 2, formatErofs: 1}[s.format]
	if full.Inodes != empty.Inodes+inodes {
		t.Errorf("grown by %d inodes", full.Inodes-empty.Inodes)
	}
	if img.Size < 1<<20 {
		t.Errorf("the image has %d bytes", img.Size)
	}
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.snapshotDir("c1"), "fs", "big"), make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if grown := usage().Bytes - full.Bytes; grown < 2<<20 {
		t.Errorf("a container's writing counts %d", grown)
	}
	if err := s.RemoveSnapshot("c1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), img.ID); err != nil {
		t.Fatal(err)
	}
	if left := usage(); left.Inodes != empty.Inodes {
		t.Errorf("left %+v of %+v", left, empty)
	}
}
