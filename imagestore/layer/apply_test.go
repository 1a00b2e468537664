package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func lstat(t testing.TB, elements ...string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(elements...), &st); err != nil {
		t.Fatalf("lstat %s: %v", filepath.Join(elements...), err)
	}
	return st
}

// TestRootHostileTars: nothing of these may be kept, and nothing may be outside.
func TestRootHostileTars(t *testing.T) {
	needRoot(t)
	device := func(name string, major, minor int64) entry {
		return entry{tar.Header{Name: name, Typeflag: tar.TypeChar, Devmajor: major, Devminor: minor}, ""}
	}
	deep := strings.Repeat("d/", 2100) + "f"
	for name, entries := range map[string][]entry{
		"above the root":               {reg("../victim", "x")},
		"above the root, later":        {reg("a/../../victim", "x")},
		"directory above the root":     {folder("..", 0o777)},
		"hard link to outside":         {hardlink("passwd", "../../../../etc/passwd")},
		"hard link to what isn't here": {hardlink("passwd", "/etc/passwd")},
		"hard link to the root":        {hardlink("root", "/")},
		"hard link to a directory":     {folder("d", 0o755), hardlink("e", "d")},
		"hard link to itself":          {reg("a", "x"), hardlink("a", "a")},
		"hard link through a symlink":  {symlink("out", "/etc"), hardlink("x", "out/passwd")},
		"whiteout of the root":         {reg(".wh.", "")},
		"whiteout of the directory":    {reg("d/.wh..", "")},
		"whiteout of the parent":       {reg("d/.wh...", "")},
		"root is a pipe":               {{tar.Header{Name: ".", Typeflag: tar.TypeFifo}, ""}},
		"root is a symlink":            {symlink("./", "/etc")},
		"below a file":                 {reg("a", "x"), reg("a/b", "y")},
		"symlink loop":                 {symlink("a", "b"), symlink("b", "a"), reg("a/x", "y")},
		"symlink to itself":            {symlink("a", "a/a"), reg("a/x", "y")},
		"symlink to nothing":           {symlink("a", "")},
		"owner beyond 32 bits":         {{tar.Header{Name: "a", Uid: 1 << 32}, ""}},
		"owner that means none":        {{tar.Header{Name: "a", Uid: 1<<32 - 1}, ""}},
		"device number":                {device("dev", 1<<12, 0)},
		"unknown type":                 {{tar.Header{Name: "a", Typeflag: 'V'}, ""}},
		"long component":               {reg(strings.Repeat("n", 300), "")},
		"long path":                    {reg(deep, "")},
		"long path by links": {symlink("s0", strings.Repeat("a/", 2047)), symlink("s1", "s0/"+strings.Repeat("a/", 2045)),
			symlink("s2", "s1/"+strings.Repeat("a/", 2045)), reg("s2/f", "")},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := unpackTar(t, pack(t, entries...))
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got error %v", err)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

// TestRootThroughSymlinks: links lead where they would in a container, never out.
func TestRootThroughSymlinks(t *testing.T) {
	needRoot(t)
	for name, test := range map[string]struct {
		link, target string
		wanted       string
	}{
		"relative":        {"usr/lib64", "lib", "usr/lib/f"},
		"absolute":        {"lib", "/usr/lib", "usr/lib/f"},
		"above the root":  {"out", "../../../../tmp", "tmp/f"},
		"host directory":  {"out", "/etc", "etc/f"},
		"dangling, deep":  {"run", "/var/a/b/c", "var/a/b/c/f"},
		"dots in between": {"a", "/x/../y/./z", "y/z/f"},
		"to the root":     {"a", "/", "f"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := mustUnpack(t, folder("usr/lib/", 0o755), symlink(test.link, test.target), reg(test.link+"/f", "content"))
			if got := read(t, dir, test.wanted); got != "content" {
				t.Errorf("read %q", got)
			}
			if st := lstat(t, dir, test.link); st.Mode&unix.S_IFMT != unix.S_IFLNK {
				t.Error("the link is gone")
			}
		})
	}
}

func TestRootLinkSwappedForDirectory(t *testing.T) {
	needRoot(t)
	// The parent was reached through the link a moment ago: what was remembered of it must not be used.
	dir, _ := mustUnpack(t, folder("real/", 0o755), symlink("a", "real"), reg("a/one", "1"), folder("a/", 0o700), reg("a/two", "2"))
	if got := names(t, filepath.Join(dir, "real")); !slices.Equal(got, []string{"one"}) {
		t.Errorf("real has %v", got)
	}
	if got := read(t, dir, "a/two"); got != "2" {
		t.Errorf("read %q", got)
	}
	if st := lstat(t, dir, "a"); st.Mode != unix.S_IFDIR|0o700 {
		t.Errorf("a has mode %o", st.Mode)
	}
}

func TestRootReplacedEntries(t *testing.T) {
	needRoot(t)
	dir, done := mustUnpack(t,
		folder("d/", 0o700), reg("d/x/y/z", "1"), reg("d", "now a file"),
		reg("f", "1"), folder("f/", 0o755), reg("f/g", "2"),
		reg("twice", "1"), reg("twice", "2"),
		folder("kept/", 0o700), reg("kept/a", "1"), folder("kept/", 0o711),
		symlink("link", "/etc/passwd"), reg("link", "not through it"))
	for name, want := range map[string]string{"d": "now a file", "f/g": "2", "twice": "2", "kept/a": "1", "link": "not through it"} {
		if got := read(t, dir, name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if st := lstat(t, dir, "kept"); st.Mode&0o7777 != 0o711 {
		t.Errorf("kept has mode %o", st.Mode)
	}
	if !slices.Equal(done.Implied, []string{""}) {
		t.Errorf("implied %q, and d/x is gone", done.Implied)
	}
}

// rawCapability is CAP_NET_BIND_SERVICE, effective, as the attribute has it (capabilities(7)).
const rawCapability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func TestRootMetadata(t *testing.T) {
	needRoot(t)
	when := time.Unix(1_234_567_890, 123_000_000)
	full := func(name string, kind byte, mode int64) entry {
		return entry{tar.Header{Name: name, Typeflag: kind, Mode: mode, Uid: 1000, Gid: 2000, ModTime: when, Format: tar.FormatPAX,
			PAXRecords: map[string]string{paxXattr + "user.note": "hello", paxXattr + "trusted.overlay.opaque": "y"}}, ""}
	}
	suid := full("suid", tar.TypeReg, 0o6755)
	suid.PAXRecords[paxXattr+capabilityXattr] = rawCapability
	link := full("link", tar.TypeSymlink, 0o777)
	link.Linkname = "suid"
	null := full("null", tar.TypeChar, 0o666)
	null.Devmajor, null.Devminor = 1, 3
	dir, _ := mustUnpack(t, full("./", tar.TypeDir, 0o750), full("d/", tar.TypeDir, 0o2775), suid, link, null,
		full("fifo", tar.TypeFifo, 0o620), reg("d/inside", "changes the directory's time"))
	for name, mode := range map[string]uint32{"": unix.S_IFDIR | 0o750, "d": unix.S_IFDIR | 0o2775, "suid": unix.S_IFREG | 0o6755,
		"link": unix.S_IFLNK | 0o777, "null": unix.S_IFCHR | 0o666, "fifo": unix.S_IFIFO | 0o620} {
		st := lstat(t, dir, name)
		if st.Mode != mode || st.Uid != 1000 || st.Gid != 2000 {
			t.Errorf("%q: mode %o, owner %d:%d", name, st.Mode, st.Uid, st.Gid)
		}
		if got := time.Unix(st.Mtim.Unix()); !got.Equal(when) {
			t.Errorf("%q: time %v", name, got)
		}
	}
	if st := lstat(t, dir, "null"); st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device %x", st.Rdev)
	}
	if st := lstat(t, dir, "d/inside"); st.Gid != 0 {
		t.Errorf("a file took the group of its directory: %d", st.Gid)
	}
	value := make([]byte, 64)
	for attr, want := range map[string]string{"user.note": "hello", capabilityXattr: rawCapability} {
		n, err := unix.Getxattr(filepath.Join(dir, "suid"), attr, value)
		if err != nil || string(value[:n]) != want {
			t.Errorf("%s: %q, %v", attr, value[:max(n, 0)], err)
		}
	}
	if _, err := unix.Getxattr(filepath.Join(dir, "d"), opaqueXattr, value); err != unix.ENODATA {
		t.Errorf("overlayfs's attribute came through: %v", err)
	}
}

func TestRootHardLinks(t *testing.T) {
	needRoot(t)
	dir, done := mustUnpack(t, reg("bin/busybox", "program"), hardlink("bin/sh", "bin/busybox"), hardlink("/bin/ls", "./bin/busybox"),
		symlink("sbin", "bin"), hardlink("init", "sbin/busybox"), symlink("link", "/nowhere"), hardlink("link2", "link"))
	want := lstat(t, dir, "bin/busybox")
	for _, name := range []string{"bin/sh", "bin/ls", "init"} {
		if st := lstat(t, dir, name); st.Ino != want.Ino {
			t.Errorf("%s is another file", name)
		}
	}
	if st := lstat(t, dir, "link2"); st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Error("a hard link to a symlink followed it")
	}
	if done.Inodes != 5 { // root, bin, busybox, sbin, link
		t.Errorf("%d inodes", done.Inodes)
	}
}

func TestRootWhiteouts(t *testing.T) {
	needRoot(t)
	dir, done := mustUnpack(t,
		reg(".wh.file", ""), reg("dir/.wh.child", ""), reg("opaque/.wh..wh..opq", ""), reg("opaque/new", "x"),
		reg(".wh.replaced", ""), folder("replaced/", 0o755), reg(".wh.implied", ""), reg("implied/x", ""),
		folder("after/", 0o755), reg(".wh.after", ""), reg("kept", "mine"), reg(".wh.kept", ""),
		reg(".wh..wh.plnk/1.2", "aufs"), reg(".wh..wh.aufs", "aufs"))
	for _, name := range []string{"file", "dir/child"} {
		if st := lstat(t, dir, name); !isWhiteout(&st) {
			t.Errorf("%s: mode %o, device %x", name, st.Mode, st.Rdev)
		}
	}
	for _, name := range []string{"opaque", "replaced", "implied", "after"} {
		var value [4]byte
		n, err := unix.Getxattr(filepath.Join(dir, name), opaqueXattr, value[:])
		if err != nil || string(value[:n]) != "y" {
			t.Errorf("%s isn't opaque: %v", name, err)
		}
	}
	if read(t, dir, "kept") != "mine" {
		t.Error("a whiteout removed what its own layer brings")
	}
	if got := names(t, dir); slices.ContainsFunc(got, func(n string) bool { return strings.HasPrefix(n, ".wh.") }) {
		t.Errorf("left over: %v", got)
	}
	if done.OpaqueRoot || !slices.Equal(done.Implied, []string{"dir", "opaque", ""}) {
		t.Errorf("opaque root %v, implied %q", done.OpaqueRoot, done.Implied)
	}
	if _, done := mustUnpack(t, reg(".wh..wh..opq", "")); !done.OpaqueRoot {
		t.Error("the root isn't opaque")
	}
}

// TestRootUmask: what a layer's files may be used for isn't the daemon's to say.
func TestRootUmask(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o077))
	dir, _ := mustUnpack(t, reg("hidden/f", ""), reg(".wh.hidden", ""), reg(".wh.gone", ""), reg("gone/f", ""), folder("d", 0o777), reg("d/f", ""))
	for name, want := range map[string]uint32{"hidden": 0o755, "gone": 0o755, "d": 0o777, "d/f": 0o644} {
		if st := lstat(t, dir, name); st.Mode&permBits != want {
			t.Errorf("%s: mode %o, want %o", name, st.Mode&permBits, want)
		}
	}
}

func TestRootManyAndDeep(t *testing.T) {
	needRoot(t)
	var entries []entry
	for i := range 300 { // more directories than are kept open, gone through twice
		entries = append(entries, reg(fmt.Sprintf("d%d/a", i), "1"))
	}
	for i := range 300 {
		entries = append(entries, reg(fmt.Sprintf("d%d/b", i), "2"))
	}
	deep := strings.Repeat("deep/", 200) + "file"
	entries = append(entries, reg(deep, "3"), reg(strings.Repeat("l", 255), "4"))
	before := openFiles(t)
	dir, done := mustUnpack(t, entries...)
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if read(t, dir, "d299/b")+read(t, dir, deep)+read(t, dir, strings.Repeat("l", 255)) != "234" {
		t.Error("content differs")
	}
	if want := int64(1 + 300 + 600 + 200 + 2); done.Inodes != want {
		t.Errorf("%d inodes, want %d", done.Inodes, want)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	return len(names(t, "/proc/self/fd"))
}

func TestCleanName(t *testing.T) {
	for name, want := range map[string]string{"a/b": "a/b", "/a": "a", "./a/": "a", "//a//b": "a/b", ".": "", "/": "", "": "", "a/..": "",
		"a/../b": "b", "..": "error", "../a": "error", "a/../../b": "error", "/../a": "error", "a\x00b": "error"} {
		got, err := cleanName(name)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestTimespec(t *testing.T) {
	for when, want := range map[time.Time]int64{{}: 0, time.Unix(-5, 0): 0, time.Unix(7, 8): 7, time.Unix(1<<40, 0): 0} {
		if got := timespec(when); got.Sec != want {
			t.Errorf("%v: %d", when, got.Sec)
		}
	}
}

func FuzzApply(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("needs root: layers have owners, devices and trusted.* attributes")
	}
	f.Add(pack(f, folder("a/", 0o755), reg("a/b", "x"), symlink("c", "a"), reg("c/d", "y"), hardlink("e", "a/b")))
	f.Add(pack(f, reg(".wh.a", ""), reg("b/.wh..wh..opq", ""), symlink("l", "../../.."), reg("l/x/y", "")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		at := t.TempDir()
		dir := filepath.Join(at, "layer")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		a, err := newApplier(dir, NewBudget(1<<20, 1000, MaxWindow), func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer a.close()
		if err := a.apply(t.Context(), strings.NewReader(string(raw))); err == nil {
			done, err := a.finish()
			if err == nil {
				err = Adopt(dir, done.Implied, nil)
			}
			if err != nil {
				t.Errorf("applied, and then: %v", err)
			}
		}
		if left := names(t, at); len(left) != 1 {
			t.Errorf("something left the layer: %v", left)
		}
	})
}
