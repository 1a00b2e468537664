package layer

import (
	"archive/tar"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRootAdopt: what a container sees of a directory must not change because a layer adds a file to it.
func TestRootAdopt(t *testing.T) {
	needRoot(t)
	owned := func(name string, mode int64, owner int) entry {
		return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: owner, Gid: owner, ModTime: time.Unix(1000, 0),
			Format: tar.FormatPAX, PAXRecords: map[string]string{paxXattr + "user.from": "below"}}, ""}
	}
	base, _ := mustUnpack(t, owned("./", 0o711, 5), owned("tmp/", 0o1777, 0), owned("home/", 0o755, 10), owned("home/me/", 0o700, 11),
		owned("gone/", 0o700, 12), owned("hidden/", 0o700, 13), owned("hidden/sub/", 0o700, 13), owned("link/", 0o700, 14))
	middle, _ := mustUnpack(t, reg(".wh.gone", ""), reg("hidden/.wh..wh..opq", ""), owned("home/", 0o750, 20), symlink("link", "home"))
	lowers := []string{middle, base}
	if err := Adopt(middle, []string{"hidden", ""}, lowers[1:]); err != nil {
		t.Fatal(err)
	}
	top, done := mustUnpack(t, reg("tmp/f", ""), reg("home/me/f", ""), reg("gone/f", ""), reg("hidden/sub/f", ""), reg("link/f", ""),
		reg("new/f", ""), reg("shut/.wh..wh..opq", ""), reg("shut/in/f", ""))
	for range 2 { // it may be called twice
		if err := Adopt(top, done.Implied, lowers); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		mode  uint32
		owner uint32
	}{
		"": {0o711, 5}, "tmp": {0o1777, 0}, "home": {0o750, 20}, "home/me": {0o700, 11}, "hidden": {0o700, 13},
		"gone":       {0o755, 0}, // a whiteout is between
		"hidden/sub": {0o755, 0}, // an opaque directory is between
		"link":       {0o755, 0}, // no directory any more
		"new":        {0o755, 0},
		"shut/in":    {0o755, 0},
	} {
		st := lstat(t, top, name)
		if st.Mode != unix.S_IFDIR|want.mode || st.Uid != want.owner || st.Gid != want.owner {
			t.Errorf("%q: mode %o, owner %d:%d", name, st.Mode, st.Uid, st.Gid)
		}
	}
	var value [16]byte
	n, err := unix.Getxattr(top+"/home/me", "user.from", value[:])
	if err != nil || string(value[:n]) != "below" {
		t.Errorf("attribute: %v", err)
	}
	if st := lstat(t, top, "tmp"); st.Mtim.Sec != 1000 {
		t.Errorf("time %d", st.Mtim.Sec)
	}
}

func TestRootAdoptOwnOpaqueParent(t *testing.T) {
	needRoot(t)
	base, _ := mustUnpack(t, folder("shut/", 0o700), folder("shut/in/", 0o700))
	top, done := mustUnpack(t, reg("shut/in/f", ""), reg("shut/.wh..wh..opq", "")) // the marker may come late
	before := openFiles(t)
	if err := Adopt(top, done.Implied, []string{base}); err != nil {
		t.Fatal(err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if st := lstat(t, top, "shut/in"); st.Mode&0o7777 != 0o755 {
		t.Errorf("shut/in has mode %o, of a directory that isn't to be seen", st.Mode)
	}
	if st := lstat(t, top, "shut"); st.Mode&0o7777 != 0o700 {
		t.Errorf("shut has mode %o", st.Mode)
	}
}

// TestRootAdoptDeep: what a directory costs hardly depends on how deep it is.
func TestRootAdoptDeep(t *testing.T) {
	needRoot(t)
	took := func(depth int) time.Duration {
		name := strings.Repeat("d/", depth)
		lower, _ := mustUnpack(t, reg(name+"file", "x"))
		dir, done := mustUnpack(t, reg(name+"other", "x"))
		began := time.Now()
		if err := Adopt(dir, done.Implied, []string{lower, lower}); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	if few, many := took(200), took(1900); many > 300*few+4*time.Second { // a walk from the top, component by component, took 15 s of the processor
		t.Errorf("%v, and %v for ten times as many", few, many)
	}
}
