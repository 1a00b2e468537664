package imagestore

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/userns"
)

// pulledInto is a store at root with one image of those layers, each a directory.
func pulledInto(t testing.TB, root string, layers ...v1.Layer) (*Store, *Image) {
	t.Helper()
	needRoot(t)
	cfg := testConfig(t)
	cfg.LayerFormat = LayerFormatDirectory
	s := openStore(t, root, cfg)
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layers...))
	return s, mustPull(t, s, ref(host, "app"))
}

// makeFile makes a file of a layer that is a directory, by another program than berth.
func makeFile(t testing.TB, s *Store, chain string) {
	t.Helper()
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		t.Skip("needs erofs-utils: ", err)
	}
	dir := s.layerDir(chain)
	if out, err := exec.Command("mkfs.erofs", dir+".new", dir).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".new", dir)); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	record := *s.layers[chain]
	record.Format = formatErofs
	s.layers[chain] = &record
	s.mu.Unlock()
	c := newChange()
	c.layers[chain] = &record
	if err := s.db.write(c); err != nil {
		t.Fatal(err)
	}
}

// mixedLayers are some of which each second will be a file. The root, and "data", are as the lowest says.
func mixedLayers(t testing.TB) []v1.Layer {
	root, data := dir("./"), dir("data/")
	root.Mode, root.Gid = 0o711, 9
	data.Mode, data.Uid = 0o1777, 7
	layers := []v1.Layer{layerOf(t, root, data, f("data/a", "0"), f("gone", "0"), f("opaque/below", "0"))}
	for i := 1; i < 6; i++ {
		layers = append(layers, layerOf(t, f(fmt.Sprintf("data/%d", i), fmt.Sprint(i)), f("data/a", fmt.Sprint(i))))
	}
	return append(layers, layerOf(t, f(".wh.gone", ""), f("opaque/.wh..wh..opq", ""), f("opaque/here", "6")))
}

// TestRootMixedLayers: a container sees layers that are files as it sees directories, those of images pulled earlier, below and between them: as they
// are, in a user namespace, and in a view; after a restart too. Each has one descriptor while it is there.
func TestRootMixedLayers(t *testing.T) {
	needFiles(t)
	s, img := pulledInto(t, t.TempDir(), mixedLayers(t)...)
	for i, chain := range img.layers {
		if i%2 == 0 {
			makeFile(t, s, chain)
		}
	}
	if err := errors.Join(s.PrepareSnapshot(t.Context(), "plain", img.ID), s.PrepareView(t.Context(), "view", img.ID),
		s.PrepareMapped(t.Context(), "mapped", img.ID, kubelets(300000))); err != nil {
		t.Fatal(err)
	}
	root, cfg := s.root, s.cfg
	for range 2 {
		before := openDescriptors(t)
		for range 3 {
			for _, key := range []string{"plain", "view"} {
				mount, err := s.MountSnapshot(key, "")
				if err != nil {
					t.Fatal(err)
				}
				wantMixed(t, mount, 0)
				mount.Close()
			}
			mount, err := s.MountMapped("mapped", userns.New(t, 300000), "")
			if err != nil {
				t.Fatal(err)
			}
			wantMixed(t, mount, 300000)
			mount.Close()
			if mount, err = s.MountImage(img.ID); err != nil {
				t.Fatal(err)
			}
			wantMixed(t, mount, 0)
			mount.Close()
		}
		more := openDescriptors(t) - before
		for deadline := time.Now().Add(5 * time.Second); more > 4+3 && time.Now().Before(deadline); more = openDescriptors(t) - before {
			time.Sleep(time.Millisecond) // what was mapped is closed after its mount is made
		}
		if more > 4+3 { // of user namespaces three
			t.Errorf("%d descriptors for 4 files", more)
		}
		s.Close()
		s = openStore(t, root, cfg)
	}
	if err := errors.Join(s.Remove(t.Context(), img.ID), s.RemoveSnapshot("plain"), s.RemoveSnapshot("mapped"), s.RemoveSnapshot("view")); err != nil {
		t.Fatal(err)
	}
	wantClean(t, s, 0)
	s.mounts.mu.Lock()
	defer s.mounts.mu.Unlock()
	if len(s.mounts.byName) > 0 {
		t.Errorf("mounts left of layers that are gone: %d", len(s.mounts.byName))
	}
}

// wantMixed wants what mixedLayers say, with the owners of a user namespace that begins there.
func wantMixed(t testing.TB, mount *os.File, first uint32) {
	t.Helper()
	if got := readMounted(t, mount, "data/a") + readMounted(t, mount, "data/1") + readMounted(t, mount, "data/4") + readMounted(t, mount, "opaque/here"); got != "5146" {
		t.Errorf("read %q", got)
	}
	for _, name := range []string{"gone", "opaque/below"} {
		if _, err := statMounted(t, mount, name); err != unix.ENOENT {
			t.Errorf("%s: %v", name, err)
		}
	}
	root, err := statMounted(t, mount, ".")
	if err != nil || root.Mode&0o7777 != 0o711 || root.Uid != first || root.Gid != first+9 {
		t.Errorf("root: mode %o, user %d, group %d, %v", root.Mode, root.Uid, root.Gid, err)
	}
	data, err := statMounted(t, mount, "data")
	if err != nil || data.Mode&0o7777 != 0o1777 || data.Uid != first+7 {
		t.Errorf("data: mode %o, user %d, %v", data.Mode, data.Uid, err)
	}
	for _, name := range []string{"data/a", "data/1", "data/4"} { // JavaScript's numbers end at 53 bits, some programs' at 32
		if st, err := statMounted(t, mount, name); err != nil || st.Ino >= 1<<32 {
			t.Errorf("%s has number %d, %v", name, st.Ino, err)
		}
	}
}

// TestRootFileLayerView: one layer that is a file is a view by itself.
func TestRootFileLayerView(t *testing.T) {
	needFiles(t)
	s, img := pulledInto(t, t.TempDir(), layerOf(t, f("a", "1")))
	makeFile(t, s, img.layers[0])
	if err := s.PrepareView(t.Context(), "v", img.ID); err != nil {
		t.Fatal(err)
	}
	for _, users := range []*os.File{nil, userns.New(t, 400000)} {
		mount, err := s.mountSnapshot("v", users, "")
		if err != nil {
			t.Fatal(err)
		}
		defer mount.Close()
		if got := readMounted(t, mount, "a"); got != "1" {
			t.Errorf("read %q", got)
		}
		if st, err := statMounted(t, mount, "a"); err != nil || (st.Uid == 400000) != (users != nil) {
			t.Errorf("owner %d, %v", st.Uid, err)
		}
		if err := unix.Mkdirat(int(mount.Fd()), "new", 0o755); err != unix.EROFS {
			t.Errorf("made a directory: %v", err)
		}
	}
}

// TestRootFileLayerWritten: what a container changes of such layers is its own, is found as its changes, and comes back from those.
func TestRootFileLayerWritten(t *testing.T) {
	needFiles(t)
	s, img := pulledInto(t, t.TempDir(), mixedLayers(t)...)
	for _, chain := range img.layers {
		makeFile(t, s, chain)
	}
	if err := errors.Join(s.PrepareSnapshot(t.Context(), "one", img.ID), s.PrepareSnapshot(t.Context(), "two", img.ID)); err != nil {
		t.Fatal(err)
	}
	at := mounted(t, s, "one")
	before := owner(t, filepath.Join(at, "data"))
	if err := errors.Join(os.WriteFile(filepath.Join(at, "data/a"), []byte("changed"), 0o600), os.Remove(filepath.Join(at, "data/1")),
		os.Rename(filepath.Join(at, "data/2"), filepath.Join(at, "moved")), os.RemoveAll(filepath.Join(at, "opaque"))); err != nil {
		t.Fatal(err)
	}
	if after := owner(t, filepath.Join(at, "data")); after != before {
		t.Errorf("data belonged to %v, belongs to %v", before, after)
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	changes, err := os.Create(filepath.Join(t.TempDir(), "changes.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Close()
	if err := s.WriteChanges(t.Context(), "one", changes); err != nil {
		t.Fatal(err)
	}
	if err := s.ApplyChanges(t.Context(), "two", changes.Name()); err != nil {
		t.Fatal(err)
	}
	mount, err := s.MountSnapshot("two", "")
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	if got := readMounted(t, mount, "data/a") + readMounted(t, mount, "moved") + readMounted(t, mount, "data/3"); got != "changed23" {
		t.Errorf("read %q", got)
	}
	for _, name := range []string{"data/1", "data/2", "opaque"} {
		if _, err := statMounted(t, mount, name); err != unix.ENOENT {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st, err := statMounted(t, mount, "data"); err != nil || st.Uid != 7 || st.Mode&0o7777 != 0o1777 {
		t.Errorf("data: mode %o, user %d, %v", st.Mode, st.Uid, err)
	}
}

// TestRootFileLayerGoes: what is mounted of a layer is there to be read after the layer is gone.
func TestRootFileLayerGoes(t *testing.T) {
	needFiles(t)
	s, img := pulledInto(t, t.TempDir(), layerOf(t, f("a", "1")), layerOf(t, f("b", "2")))
	for _, chain := range img.layers {
		makeFile(t, s, chain)
	}
	before := openDescriptors(t)
	mount, err := s.MountImage(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), img.ID); err != nil {
		t.Fatal(err)
	}
	wantClean(t, s, 0)
	if got := readMounted(t, mount, "a") + readMounted(t, mount, "b"); got != "12" {
		t.Errorf("read %q", got)
	}
	mount.Close()
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestRootFileLayerErrors: a layer that can't be mounted is named, with the reason, and whose fault it is.
func TestRootFileLayerErrors(t *testing.T) {
	needFiles(t)
	onTmpfs, err := os.MkdirTemp("/dev/shm", "berth-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(onTmpfs) })
	for name, test := range map[string]struct {
		root  string
		spoil func(s *Store, chain string) error
		want  error
		says  string
	}{
		// As on a kernel that mounts no EROFS of files.
		"where none can be":        {onTmpfs, func(*Store, string) error { return nil }, ErrUnsupported, "block device required"},
		"damaged":                  {t.TempDir(), func(s *Store, chain string) error { return os.WriteFile(s.layerDir(chain), make([]byte, 8192), 0o600) }, ErrCorrupt, "invalid"},
		"gone":                     {t.TempDir(), func(s *Store, chain string) error { return os.Remove(s.layerDir(chain)) }, os.ErrNotExist, "no such file"},
		"of a berth that is newer": {t.TempDir(), func(s *Store, chain string) error { s.layers[chain].Format = "stars"; return nil }, ErrUnsupported, `"stars"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, img := pulledInto(t, test.root, layerOf(t, f("a", "1")), layerOf(t, f("b", "2")))
			makeFile(t, s, img.layers[0])
			if err := test.spoil(s, img.layers[0]); err != nil {
				t.Fatal(err)
			}
			check := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, test.want) || !strings.Contains(err.Error(), img.layers[0]) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s: %v", what, err)
				}
			}
			before := openDescriptors(t)
			check("prepare", s.PrepareSnapshot(t.Context(), "c", img.ID))
			_, err := s.MountImage(img.ID)
			check("mount", err)
			if err := s.PrepareView(t.Context(), "v", img.ID); err != nil {
				t.Fatal(err)
			}
			_, err = s.MountSnapshot("v", "")
			check("mount a view", err)
			s.bin.wait() // what the snapshot that failed left is being deleted
			if after := openDescriptors(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
			if err := errors.Join(s.RemoveSnapshot("v"), s.Remove(t.Context(), img.ID)); err != nil {
				t.Error(err)
			}
			s.dropSpare()
			wantClean(t, s, 0)
		})
	}
}

// TestRootNumbersStay: a file that a container wrote to has the number that it had in the image, also when the kernel has
// forgotten them meanwhile, as when there is little memory.
func TestRootNumbersStay(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")), layerOf(t, f("b", "2")))
	if err := s.PrepareSnapshot(t.Context(), "one", img.ID); err != nil {
		t.Fatal(err)
	}
	var first [2]unix.Stat_t
	for round := range 3 {
		mount, err := s.MountSnapshot("one", "")
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"a", "b"} {
			st, err := statMounted(t, mount, name)
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				first[i] = st
			}
			if st.Ino != first[i].Ino {
				t.Errorf("%s had number %d, has %d", name, first[i].Ino, st.Ino)
			}
			fd, err := unix.Openat(int(mount.Fd()), name, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
		mount.Close()
	}
}
