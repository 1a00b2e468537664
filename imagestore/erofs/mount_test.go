package erofs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// image makes an EROFS image of a directory by another program than this package. It skips the test where that, or the kernel, can't.
func image(t testing.TB, dir, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		t.Skip("needs erofs-utils: ", err)
	}
	name := filepath.Join(t.TempDir(), "image") // mkfs.erofs has its own limit of a path's length
	if out, err := exec.Command("mkfs.erofs", name, dir).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	mount, err := Mount(path)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOTBLK) {
		t.Skip("this kernel mounts no EROFS of a file (Linux 6.12): ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	mount.Close()
}

// tree is a directory with a file "a" of that content, of user 7 and group 9.
func tree(t testing.TB, content string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 7, 9); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	return dir
}

func readAt(t testing.TB, mount *os.File, name string) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/%s", mount.Fd(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestRootMount: whatever the path, and after the file is gone, what is in it is there to be read, and nothing to be written.
func TestRootMount(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("long/", 60))
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(path, "layer")
	image(t, tree(t, "hello"), path)
	before := openFiles(t)
	mount, err := Mount(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := readAt(t, mount, "a"); got != "hello" {
		t.Errorf("read %q", got)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(mount.Fd()), "a", &st, 0); err != nil || st.Uid != 7 || st.Gid != 9 || st.Mode&0o7777 != 0o640 {
		t.Errorf("user %d, group %d, mode %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
	if err := unix.Mkdirat(int(mount.Fd()), "new", 0o755); err != unix.EROFS {
		t.Errorf("made a directory: %v", err)
	}
	if flags, err := unix.FcntlInt(mount.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the mount goes to children: %x, %v", flags, err)
	}
	if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(table), "- erofs") {
		t.Errorf("a mount is in the node's mount table: %v", err)
	}
	mount.Close()
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestRootMountCachesOnce: what is read of a file in the image isn't in memory as a part of the image too.
func TestRootMountCachesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "layer")
	image(t, tree(t, strings.Repeat("x", 4<<20)), path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !direct(f) {
		t.Skip("this file system has no reads of 512 bytes past the page cache")
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	mount, err := Mount(path)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	if got := readAt(t, mount, "a"); len(got) != 4<<20 {
		t.Errorf("read %d bytes", len(got))
	}
	var cached unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &cached, 0); err != nil {
		t.Skip("this kernel doesn't tell what it caches (Linux 6.5): ", err)
	}
	if cached.Cache > 64 { // some metadata
		t.Errorf("%d pages of the image are cached", cached.Cache)
	}
}

// TestRootMountThroughTheCache is how it goes where reads past the page cache aren't to be had.
func TestRootMountThroughTheCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "layer")
	image(t, tree(t, "hello"), path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mount, err := mountWith(f)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	if got := readAt(t, mount, "a"); got != "hello" {
		t.Errorf("read %q", got)
	}
}

// TestDirect: tmpfs has no reads past the page cache.
func TestDirect(t *testing.T) {
	f, err := os.CreateTemp("/dev/shm", "berth-erofs-")
	if err != nil {
		t.Skip("needs a tmpfs: ", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if direct(f) {
		t.Error("tmpfs says that it has them")
	}
}

func TestRootMountErrors(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	image(t, tree(t, "hello"), good)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damaged := []byte(strings.Clone(string(content)))
	copy(damaged[1024+16:], "\xff\xff\xff\xff") // where the root's inode is
	for name, test := range map[string]struct {
		content []byte
		want    []error
	}{
		"empty":        {nil, []error{unix.EINVAL, unix.EIO}},
		"zeros":        {make([]byte, 1<<16), []error{unix.EINVAL}},
		"header alone": {content[:1024+4], []error{unix.EINVAL, unix.EIO, unix.EUCLEAN}},
		"damaged":      {damaged, []error{unix.EINVAL, unix.EUCLEAN, unix.EBADMSG, unix.EIO}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "layer")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			before := openFiles(t)
			mount, err := Mount(path)
			if err == nil {
				mount.Close()
				t.Fatal("mounted")
			}
			named := strings.Contains(err.Error(), path)
			for _, want := range test.want {
				if errors.Is(err, want) && named {
					err = nil
				}
			}
			if err != nil {
				t.Errorf("error %v", err)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
	if _, err := Mount(good + "none"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), good+"none") {
		t.Errorf("missing: %v", err)
	}
	if _, err := Mount(t.TempDir()); err == nil {
		t.Error("mounted a directory")
	}
}
