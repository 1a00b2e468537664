package imagestore

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/disk"
)

// TestRootStoreOnXFS has no project quotas: it isn't mounted with them, and a kernel may lack them (CONFIG_XFS_QUOTA).
func TestRootStoreOnXFS(t *testing.T) { storeOn(t, "xfs") }

func TestRootStoreOnBtrfs(t *testing.T) { storeOn(t, "btrfs") }

// TestRootStoreOnLargeSectors: blocks of layers are smaller than the disk's.
func TestRootStoreOnLargeSectors(t *testing.T) {
	if !disk.Alone(t) {
		return
	}
	image, at := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	if err := disk.Format(image, 600<<20); err != nil {
		t.Fatal(err)
	}
	if err := disk.MountSectors(image, at, 4096); err != nil {
		t.Fatal(err)
	}
	useStore(t, at)
}

func storeOn(t *testing.T, fstype string) {
	if !disk.Alone(t) {
		return
	}
	if _, err := exec.LookPath("mkfs." + fstype); err != nil {
		t.Skip("needs mkfs: ", err)
	}
	image, at := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	if err := disk.FormatAs(fstype, image, 400<<20); err != nil {
		t.Fatal(err)
	}
	if err := disk.MountAs(fstype, "", image, at); errors.Is(err, unix.ENODEV) {
		t.Skip("this kernel has no such file system: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	useStore(t, at)
}

// useStore has a store do all that it does on the file system mounted there, and nothing stay of it.
func useStore(t *testing.T, at string) {
	t.Helper()
	elsewhere := newTestStore(t).LayerFormat()
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, dir("d/"), f("d/below", "1"), f("gone", "2")), layerOf(t, f(".wh.gone", ""), f("top", "3"))))
	s := openStore(t, at+"/images", testConfig(t))
	if got := s.LayerFormat(); got != elsewhere {
		t.Errorf("layers are made as %s here, elsewhere as %s", got, elsewhere)
	}
	img := mustPull(t, s, ref(host, "app"))
	if got := s.Measuring(); !strings.HasPrefix(got, "walking: no project quotas") {
		t.Error(got)
	}
	for key, prepare := range map[string]func() error{
		"plain":  func() error { return s.PrepareSnapshot(t.Context(), "plain", img.ID) },
		"mapped": func() error { return s.PrepareMapped(t.Context(), "mapped", img.ID, kubelets(300000)) },
	} {
		if err := prepare(); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		writeOn(t, s, key)
		var archive bytes.Buffer
		if err := s.WriteChanges(t.Context(), key, &archive); err != nil || !bytes.Contains(archive.Bytes(), []byte("d/.wh.below")) {
			t.Errorf("%s: archive of %d bytes, %v", key, archive.Len(), err)
		}
		if err := s.RemoveSnapshot(key); err != nil {
			t.Error(err)
		}
	}
	if bad, all := verify(t, s, false); len(bad) != 0 || all != 2 {
		t.Errorf("%d layers, damaged: %+v", all, bad)
	}
	var archive bytes.Buffer
	if err := s.Export(t.Context(), []string{img.ID}, &archive); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), img.ID); err != nil {
		t.Error(err)
	}
	s.dropSpare()
	wantClean(t, s, 0)
	if images, err := s.Import(t.Context(), &archive, ref(host, "again")); err != nil || images[0].ID != img.ID {
		t.Errorf("imported %v, %v", images, err)
	}
	s.Close()
	if err := unix.Unmount(at, 0); err != nil { // busy: something is still open, or mounted
		t.Error(err)
	}
}

// writeOn changes what a container sees, and looks that it is counted.
func writeOn(t *testing.T, s *Store, key string) {
	t.Helper()
	empty := measured(t, s, key)
	root := mounted(t, s, key)
	if _, err := os.Lstat(root + "/gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: what a layer removed is there: %v", key, err)
	}
	if err := errors.Join(
		os.WriteFile(root+"/big", bytes.Repeat([]byte("x"), 3<<20), 0o644),
		os.Chmod(root+"/top", 0o600), // copied up
		os.Remove(root+"/d/below"),
		os.Mkdir(root+"/new", 0o755),
		os.Rename(root+"/top", root+"/new/top"),
	); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	unix.Sync() // blocks are counted when they are allocated
	if full := measured(t, s, key); full.Bytes < empty.Bytes+3<<20 || full.Inodes < empty.Inodes+3 {
		t.Errorf("%s: empty %+v, full %+v", key, empty, full)
	}
	if content, err := os.ReadFile(root + "/new/top"); string(content) != "3" {
		t.Errorf("%s: %q, %v", key, content, err)
	}
	if err := unix.Unmount(root, 0); err != nil {
		t.Fatal(err)
	}
}
