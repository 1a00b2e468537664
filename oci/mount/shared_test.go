package mount

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci/program"
)

// enclosed is what NewShared does before Linux 6.15.
func enclosed(fstype string, options []string) (*os.File, error) {
	f, err := New(fstype, options)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return enclose(f)
}

// TestRootShared: every copy shows the same files, has options of its own, and outlives the others.
func TestRootShared(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	for name, make := range map[string]func(string, []string) (*os.File, error){"as this kernel does": NewShared, "enclosed": enclosed} {
		t.Run(name, func(t *testing.T) {
			f, err := make("tmpfs", []string{"nosuid", "mode=1777", "size=65536"})
			if err != nil {
				t.Fatal(err)
			}
			first, second := clone(t, f, program.MountOptions{}), clone(t, f, program.MountOptions{Set: unix.MOUNT_ATTR_RDONLY})
			if err := touch(first, "seen"); err != nil {
				t.Fatal(err)
			}
			if err := touch(second, "refused"); err != unix.EROFS {
				t.Errorf("write to the read-only copy: %v, want EROFS", err)
			}
			first.Close()
			var st unix.Stat_t
			if err := unix.Fstatat(int(second.Fd()), "seen", &st, 0); err != nil {
				t.Errorf("what the first copy was given: %v", err)
			}
			var fs unix.Statfs_t
			if err := unix.Fstatfs(int(second.Fd()), &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
				t.Errorf("copy is of type %#x, %v", fs.Type, err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := unix.Fstatat(int(second.Fd()), "seen", &st, 0); err != nil {
				t.Errorf("after the original went: %v", err)
			}
		})
	}
}

// TestRootEnclosed: the namespace keeps none of the node's mounts busy, and nothing shows on the node.
func TestRootEnclosed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	before := mountinfo(t)
	f, err := enclosed("tmpfs", []string{"size=4096"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !isSpace(f) {
		t.Fatal("no mount namespace")
	}
	if after := mountinfo(t); strings.Count(after, "size=4k") != strings.Count(before, "size=4k") {
		t.Errorf("it shows on the node:\n%s", after)
	}
	var mounts string
	inThread(func() { mounts, err = mountsIn(f) })
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(mounts, "\n"); n != 1 || !strings.Contains(mounts, " - tmpfs ") {
		t.Errorf("the namespace has these mounts, want one:\n%s", mounts)
	}
}

// mountsIn is the mountinfo of a mount namespace, which the thread enters.
func mountsIn(space *os.File) (string, error) {
	thread, err := unix.Open("/proc/thread-self", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(thread)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return "", err
	}
	if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNS); err != nil {
		return "", err
	}
	fd, err := unix.Openat(thread, "mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, 1<<16)
	n, err := unix.Read(fd, buf)
	return string(buf[:max(n, 0)]), err
}

func clone(t *testing.T, from *os.File, o program.MountOptions) *os.File {
	t.Helper()
	f, dir, err := Clone(from, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if !dir {
		t.Error("its root is no directory")
	}
	return f
}

func touch(at *os.File, name string) error {
	fd, err := unix.Openat(int(at.Fd()), name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func mountinfo(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
