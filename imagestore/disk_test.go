package imagestore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/disk"
)

// onTmpfs opens a store on a file system of its own, of so many bytes.
func onTmpfs(t *testing.T, size int64) (s *Store, resize func(size int64)) {
	t.Helper()
	at := t.TempDir()
	mount := func(flags uintptr, size int64) {
		t.Helper()
		if err := unix.Mount("tmpfs", at, "tmpfs", flags, fmt.Sprintf("size=%d", size)); err != nil {
			t.Fatal(err)
		}
	}
	mount(0, size)
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	s = openStore(t, filepath.Join(at, "images"), testConfig(t))
	return s, func(size int64) { t.Helper(); mount(unix.MS_REMOUNT, size) }
}

func threeLayers(t *testing.T) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for i := range 3 {
		layers = append(layers, layerOf(t, f(fmt.Sprintf("d%d/big", i), strings.Repeat(fmt.Sprint(i), 400_000)), f(fmt.Sprintf("d%d/small", i), "x")))
	}
	return imageOf(t, layers...)
}

// TestRootFullDisk: wherever in a pull the disk is full, the error says so and of what, nothing stays, and with room the next pull works.
func TestRootFullDisk(t *testing.T) {
	if !disk.Alone(t) {
		return
	}
	host := serve(t, nil)
	push(t, ref(host, "app"), threeLayers(t))
	full, fit := 0, 0
	for size := int64(128 << 10); size < 2<<20; size += 64 << 10 {
		s, resize := onTmpfs(t, size)
		_, err := s.Pull(t.Context(), ref(host, "app"), nil)
		if err == nil {
			fit++
			continue
		}
		full++
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), ref(host, "app")) {
			t.Errorf("%d bytes: %v", size, err)
		}
		wantClean(t, s, 0)
		if len(s.Images()) != 0 {
			t.Errorf("%d bytes: an image is listed", size)
		}
		resize(64 << 20)
		mustPull(t, s, ref(host, "app"))
		if err := s.Remove(t.Context(), ref(host, "app")); err != nil {
			t.Errorf("%d bytes: remove: %v", size, err)
		}
		wantClean(t, s, 0)
	}
	if full < 5 || fit == 0 {
		t.Errorf("full %d times, enough %d times: the sizes test nothing", full, fit)
	}
}

// TestRootFullDiskRemove: on a full disk images can be removed, which is how it gets room again.
func TestRootFullDiskRemove(t *testing.T) {
	if !disk.Alone(t) {
		return
	}
	host := serve(t, nil)
	push(t, ref(host, "app"), threeLayers(t))
	s, _ := onTmpfs(t, 4<<20)
	img := mustPull(t, s, ref(host, "app"))
	fill(t, filepath.Dir(s.root))
	if err := s.PrepareSnapshot(t.Context(), "c", img.ID); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("snapshot: %v", err)
	}
	if err := s.Remove(t.Context(), img.ID); err != nil {
		t.Errorf("remove: %v", err)
	}
	wantClean(t, s, 0)
	mustPull(t, s, ref(host, "app"))
}

// fill takes all space that a file system has.
func fill(t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.Open(filepath.Join(dir, "filler"), unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	block := make([]byte, 4096)
	for {
		if _, err := unix.Write(fd, block); err == unix.ENOSPC {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootReadOnlyDisk: what ext4 does after an error of the disk below it.
func TestRootReadOnlyDisk(t *testing.T) {
	if !disk.Alone(t) {
		return
	}
	host := serve(t, nil)
	push(t, ref(host, "app"), threeLayers(t))
	push(t, ref(host, "other"), imageOf(t, layerOf(t, f("a", "1"))))
	image, at := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	if err := disk.Format(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	mountAt(t, image, at)
	s := openStore(t, at+"/images", testConfig(t))
	img := mustPull(t, s, ref(host, "app"))
	s.bin.wait()
	if err := unix.Mount("", at, "", unix.MS_REMOUNT, "abort"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), ref(host, "other"), nil); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), ref(host, "other")) {
		t.Errorf("pull: %v", err)
	}
	if again, err := s.Pull(t.Context(), ref(host, "app"), nil); err != nil || again.ID != img.ID {
		t.Errorf("a pull of what is here: %v", err)
	}
	if err := s.PrepareSnapshot(t.Context(), "c", img.ID); !errors.Is(err, unix.EROFS) {
		t.Errorf("snapshot: %v", err)
	}
	if err := s.Remove(t.Context(), img.ID); err == nil {
		t.Error("removed, and the disk can't be written")
	}
	if found, err := s.Image(img.ID); err != nil || found.ID != img.ID {
		t.Errorf("after a removal that failed: %v", err)
	}
	root, cfg := s.root, s.cfg
	s.Close()
	if _, err := Open(t.Context(), root, cfg, quietLog()); !errors.Is(err, unix.EROFS) {
		t.Errorf("open: %v", err)
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	mountAt(t, image, at)
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	s = openStore(t, root, cfg)
	mustPull(t, s, ref(host, "other"))
	wantClean(t, s, 4)
	s.Close()
}
