package fscontext

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, fstype string) *Context {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	c, err := Open(fstype)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestRootMount: what is made is a mount of its own, with its attributes, that no table shows and no child inherits.
func TestRootMount(t *testing.T) {
	c := open(t, "tmpfs")
	if err := errors.Join(c.String("size", "1m"), c.String("source", "berth-fscontext")); err != nil {
		t.Fatal(err)
	}
	mount, err := c.Mount(unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(mount.Fd()), &st); err != nil || st.Type != unix.TMPFS_MAGIC || st.Blocks*uint64(st.Bsize) != 1<<20 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := unix.Mkdirat(int(mount.Fd()), "new", 0o755); err != unix.EROFS {
		t.Errorf("made a directory: %v", err)
	}
	if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(table), "berth-fscontext") {
		t.Errorf("it is in the mount table: %v", err)
	}
	if flags, err := unix.FcntlInt(mount.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("children inherit it: %x, %v", flags, err)
	}
}

// TestRootErrors name what was asked for, and what the kernel says of it.
func TestRootErrors(t *testing.T) {
	c := open(t, "tmpfs")
	if _, err := Open("no-such-system"); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "no-such-system") {
		t.Errorf("type: %v", err)
	}
	long := filepath.Join("/", strings.Repeat("long/", 60))
	if Fits(long) || !Fits("/short") {
		t.Error("a path of 300 bytes fits, or one of 6 doesn't")
	}
	for name, test := range map[string]struct {
		err  error
		want error
		says []string
	}{
		"value":     {c.String("size", "much"), unix.EINVAL, []string{"set size to much", "Bad value for 'size'"}},
		"key":       {c.Flag("starlight"), unix.EINVAL, []string{"set starlight", "Unknown parameter 'starlight'"}},
		"file":      {c.File("size", 0, "/dev/null"), unix.EINVAL, []string{"set size to /dev/null"}},
		"long path": {c.Path("size", long), unix.ENOENT, []string{long}},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v", name, test.err)
			continue
		}
		for _, says := range test.says {
			if !strings.Contains(test.err.Error(), says) {
				t.Errorf("%s: %v, which doesn't say %q", name, test.err, says)
			}
		}
	}
}
