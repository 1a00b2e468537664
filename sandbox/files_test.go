package sandbox

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestPodFiles(t *testing.T) {
	dir := t.TempDir()
	config := podConfig("web")
	config.DNS = &spec.DNS{Servers: []string{"10.0.0.10", "fd00::a"}, Searches: []string{"a.local", "b.local"}, Options: []string{"ndots:5"}}
	if err := writePodFiles(dir, config); err != nil {
		t.Fatal(err)
	}
	if err := writeHosts(dir, config, []netip.Addr{netip.MustParseAddr("10.1.2.3")}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"resolv.conf": "search a.local b.local\nnameserver 10.0.0.10\nnameserver fd00::a\noptions ndots:5\n",
		"hostname":    "web\n",
		"hosts":       "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tweb\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	config.DNS, config.Security.Namespaces.Network = nil, spec.NamespaceNode
	if err := writePodFiles(dir, config); err != nil {
		t.Fatal(err)
	}
	if err := writeHosts(dir, config, nil); err != nil {
		t.Fatal(err)
	}
	for name, host := range map[string]string{"resolv.conf": "/etc/resolv.conf", "hosts": "/etc/hosts", "hostname": ""} {
		want := ""
		if host == "" {
			h, _ := os.Hostname()
			want = h + "\n"
		} else if b, err := os.ReadFile(host); err == nil {
			want = string(b)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s is %q, %v, wanted the host's", name, got, err)
		}
	}
}

func TestOpenLog(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "x.log"), filepath.Join(dir, "link.log")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{
		"c/0.log": true, "0.log": true, "a/b/c/0.log": true, "./d//0.log": true,
		"../x.log": false, "a/../../x.log": false, "link/x.log": false, "link.log": false, "fifo.log": false, "": false, "..": false, "/": false,
	} {
		f, err := openLog(filepath.Join(dir), name)
		if (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
		if err == nil {
			f.Close()
		}
	}
	if f, err := openLog(dir, "c/0.log"); err != nil {
		t.Error(err)
	} else {
		flags, _ := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		if st, _ := f.Stat(); flags&unix.O_APPEND == 0 || st.Mode().Perm()&0o027 != 0 {
			t.Errorf("flags %o, mode %v", flags, st.Mode())
		}
		f.Close()
	}
	if _, err := openLog(dir, "a/b"); err == nil {
		t.Error("a directory was opened as a log")
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("it climbed out: %v", left)
	}
}

func TestUserFilesStayInTheImage(t *testing.T) {
	image := t.TempDir()
	if err := os.MkdirAll(filepath.Join(image, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	passwd := filepath.Join(image, "etc/passwd")
	for name, c := range map[string]struct {
		make func() error
		want string // of the content; "": no file
	}{
		"none":               {func() error { return nil }, ""},
		"file":               {func() error { return os.WriteFile(passwd, []byte("a"), 0o644) }, "a"},
		"link out":           {func() error { return os.Symlink("/etc/hostname", passwd) }, ""},
		"link up":            {func() error { return os.Symlink("../../../../../../../../etc/hostname", passwd) }, ""},
		"link within":        {func() error { return os.Symlink("/real", passwd) }, "real"},
		"fifo":               {func() error { return unix.Mkfifo(passwd, 0o644) }, ""},
		"directory":          {func() error { return os.Mkdir(passwd, 0o755) }, ""},
		"link to a proc one": {func() error { return os.Symlink("/proc/self/exe", passwd) }, ""},
	} {
		write(t, filepath.Join(image, "real"), "real")
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		f, err := openInRoot(root, "etc/passwd")
		got := ""
		if err == nil && f != nil {
			b := make([]byte, 10)
			n, _ := f.Read(b)
			got = string(b[:n])
			f.Close()
		}
		if err != nil || got != c.want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if err := os.RemoveAll(passwd); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := new(DefaultConfig()).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	bad := Config{CgroupParent: "berth/../x", CgroupDriver: "systemctl", PidsLimit: -1, MaxLogLine: 2 << 20, MaxLogSize: 1, CDISpecDirs: []string{"cdi"}, AppArmorProfile: "a b", Rlimits: []string{"files=1"}}
	err := bad.Validate()
	for _, key := range []string{"cgroup_parent", "cgroup_driver", "pids_limit", "max_log_line", "max_log_size", "shm_size", "cdi_spec_dirs", "criu", "apparmor_profile", "rlimits"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not named: %v", key, err)
		}
	}
	c := DefaultConfig()
	for _, x := range []struct{ driver, parent, want string }{
		{"cgroupfs", "", "/berth/id"}, {"cgroupfs", "/kubepods/pod1", "/kubepods/pod1/id"},
	} {
		c.CgroupDriver = x.driver
		if got, err := c.cgroup(&spec.Pod{CgroupParent: x.parent}, "id"); got != x.want || err != nil {
			t.Errorf("%s below %q: %s, %v", x.driver, x.parent, got, err)
		}
	}
	c.CgroupDriver = "systemd"
	if got, err := c.cgroup(&spec.Pod{CgroupParent: "/kubepods.slice"}, "id"); !strings.HasSuffix(got, "-id.scope") || err != nil {
		t.Errorf("systemd: %s, %v", got, err)
	}
}

func TestImageNames(t *testing.T) {
	image := *fakeImage
	image.Tags = []string{"a.example/web:1", "b.example/web:2"}
	image.Digests = []string{"a.example/web@sha256:1", "b.example/web@sha256:2"}
	for _, c := range []struct{ asked, user, name, digest string }{
		{image.ID, "", "a.example/web:1", "a.example/web@sha256:1"},
		{image.ID, "b.example/web:2", "b.example/web:2", "b.example/web@sha256:2"},
		{"b.example/web:2", "", "b.example/web:2", "b.example/web@sha256:2"},
		{image.ID, "c.example/gone:3", "a.example/web:1", "a.example/web@sha256:1"},
	} {
		got := newImageRecord(&image, spec.ImageRef{Image: c.asked, UserSpecifiedImage: c.user})
		if got.Name != c.name || got.Digest != c.digest {
			t.Errorf("%+v: got %s %s", c, got.Name, got.Digest)
		}
	}
	image.Tags, image.Digests = nil, nil
	if got := newImageRecord(&image, spec.ImageRef{}); got.Name != "" || got.Digest != "" {
		t.Errorf("nameless image: %+v", got)
	}
}
