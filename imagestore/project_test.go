package imagestore

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/disk"
)

// counting mounts a file system that counts projects, and skips the test on a kernel that can't.
func counting(t *testing.T, fstype string) (at string) {
	t.Helper()
	if _, err := exec.LookPath("mkfs." + fstype); err != nil {
		t.Skip("needs mkfs: ", err)
	}
	image, at := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	format := func() error { return disk.Format(image, 64<<20, "quota", "project") }
	if fstype == "xfs" {
		format = func() error { return disk.FormatAs(fstype, image, 400<<20) }
	}
	if err := format(); err != nil {
		t.Fatal(err)
	}
	err := disk.MountAs(fstype, "prjquota", image, at)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESRCH) {
		t.Skip("this kernel has no quotas of ", fstype, " (CONFIG_QFMT_V2, CONFIG_XFS_QUOTA): ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

// measured is what the next round says of a snapshot.
func measured(t *testing.T, s *Store, key string) SnapshotUsage {
	t.Helper()
	return s.measureAll(t.Context())[key]
}

// mounted attaches a snapshot's mount, until the test unmounts it.
func mounted(t *testing.T, s *Store, key string) (at string) {
	t.Helper()
	mount, err := s.MountSnapshot(key, "")
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	at = t.TempDir()
	if err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	return at
}

// TestRootProjectUsage: what containers write is counted by the kernel, as walking would, and no longer when it is gone.
func TestRootProjectUsage(t *testing.T) { projectUsage(t, "ext4") }

func TestRootProjectUsageXFS(t *testing.T) { projectUsage(t, "xfs") }

func projectUsage(t *testing.T, fstype string) {
	if !disk.Alone(t) {
		return
	}
	at := counting(t, fstype)
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("d/below", strings.Repeat("x", 50_000)))))
	s := openStore(t, at+"/images", testConfig(t))
	img := mustPull(t, s, ref(host, "app"))
	if got := s.Measuring(); !strings.HasPrefix(got, "project quotas") {
		t.Fatal(got)
	}
	if err := s.ExpectSnapshot(); err != nil { // which is in no project
		t.Fatal(err)
	}
	for _, key := range []string{"one", "two"} {
		if err := s.PrepareMapped(t.Context(), key, img.ID, kubelets(300000)); err != nil {
			t.Fatal(err)
		}
	}
	empty := measured(t, s, "one")
	root := mounted(t, s, "one")
	if err := errors.Join(
		os.WriteFile(root+"/big", make([]byte, 3<<20), 0o644),
		os.Mkdir(root+"/d/new", 0o755),
		os.WriteFile(root+"/d/new/f", []byte("x"), 0o644),
		os.Chmod(root+"/d/below", 0o600), // copied up
		os.Rename(root+"/d/new/f", root+"/moved"),
	); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	if _, _, err := s.projects.Usage(s.snapshotDir("one")); err != nil {
		t.Error(err) // it would be walked
	}
	full, other := measured(t, s, "one"), measured(t, s, "two")
	walked, inodes, err := diskUsage(t.Context(), s.snapshotDir("one"))
	if err != nil {
		t.Fatal(err)
	}
	if full.Bytes != walked || full.Inodes != inodes {
		t.Errorf("counted %d bytes, %d inodes; walked %d, %d", full.Bytes, full.Inodes, walked, inodes)
	}
	if full.Bytes < empty.Bytes+3<<20 || full.Inodes < empty.Inodes+4 || other.Bytes != empty.Bytes || other.Inodes != empty.Inodes {
		t.Errorf("empty %+v, full %+v, the other %+v", empty, full, other)
	}
	if err := os.Remove(root + "/big"); err != nil {
		t.Fatal(err)
	}
	got := measured(t, s, "one")
	for end := time.Now().Add(30 * time.Second); got.Bytes > full.Bytes-3<<20 && time.Now().Before(end); got = measured(t, s, "one") {
		time.Sleep(50 * time.Millisecond) // XFS gives blocks back in the background (since Linux 5.14)
	}
	if got.Bytes > full.Bytes-3<<20 {
		t.Errorf("after a removal %+v, before %+v", got, full)
	}
	if err := unix.Unmount(root, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.RemoveSnapshot("one"), s.RemoveSnapshot("two")); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), img.ID); err != nil {
		t.Error(err)
	}
	s.dropSpare() // which was for others
	wantClean(t, s, 0)
	s.Close()
}

// TestRootProjectEvaded: who can give files to another project is not believed.
func TestRootProjectEvaded(t *testing.T) {
	if !disk.Alone(t) {
		return
	}
	at := counting(t, "ext4")
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1"))))
	s := openStore(t, at+"/images", testConfig(t))
	img := mustPull(t, s, ref(host, "app"))
	for _, key := range []string{"spare", "fresh"} {
		if key == "spare" {
			if err := s.ExpectSnapshot(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.PrepareSnapshot(t.Context(), key, img.ID); err != nil {
			t.Fatal(err)
		}
		root := mounted(t, s, key)
		if err := os.WriteFile(root+"/big", make([]byte, 3<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("chattr", "-p", "7", root+"/big").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		unix.Sync()
		if got := measured(t, s, key); got.Bytes < 3<<20 {
			t.Errorf("%s: %d bytes", key, got.Bytes)
		}
		if err := unix.Unmount(root, 0); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
}

// TestRootProjectOfOthers: where the store is in somebody's project, it stays in it, and everything works.
func TestRootProjectOfOthers(t *testing.T) {
	if !disk.Alone(t) {
		return
	}
	at := counting(t, "ext4")
	if out, err := exec.Command("chattr", "+P", "-p", "7", at).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1"))))
	s := openStore(t, at+"/images", testConfig(t))
	img := mustPull(t, s, ref(host, "app"))
	if err := s.PrepareSnapshot(t.Context(), "one", img.ID); err != nil {
		t.Fatal(err)
	}
	if got := s.Measuring(); !strings.Contains(got, "is in project 7") {
		t.Error(got)
	}
	if got := measured(t, s, "one"); got.Bytes == 0 {
		t.Errorf("%+v", got)
	}
	s.Close()
}

// TestRootMeasuringWithoutProjects says why it walks.
func TestRootMeasuringWithoutProjects(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	if s.projects != nil {
		t.Skip("this file system counts projects")
	}
	if err := s.PrepareSnapshot(t.Context(), "one", img.ID); err != nil {
		t.Fatal(err)
	}
	if got := s.Measuring(); !strings.HasPrefix(got, "walking: no project quotas") {
		t.Error(got)
	}
	if got := measured(t, s, "one"); got.Bytes == 0 || got.Inodes < 4 {
		t.Errorf("%+v", got)
	}
}
