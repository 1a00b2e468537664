package mount

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci/program"
)

// TestRootBindHasNoPeers: what is mounted in a copy of a shared mount does not show where
// the copy was made from.
func TestRootBindHasNoPeers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	dir := t.TempDir()
	var err error
	var seen string
	inThread(func() {
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return
		}
		if err = unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return
		}
		if err = unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
			return
		}
		if err = os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
			return
		}
		seen, err = mountedThrough(dir)
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(seen, "/a/b ") {
		t.Errorf("what was mounted in the copy shows in its source:\n%s", seen)
	}
}

// mountedThrough mounts something in a copy of dir, and returns the mount table.
func mountedThrough(dir string) (string, error) {
	f, _, err := Bind(dir, program.MountOptions{RecursiveBind: true}, nil)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := os.Mkdir(dir+"/at", 0o755); err != nil {
		return "", err
	}
	if err := unix.MoveMount(int(f.Fd()), "", unix.AT_FDCWD, dir+"/at", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", dir+"/at/a/b", "tmpfs", 0, ""); err != nil {
		return "", err
	}
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	return strings.ReplaceAll(string(text), dir+"/at/a/b ", dir+"/at/a-b "), err
}
