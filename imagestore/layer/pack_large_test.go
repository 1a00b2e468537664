package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRootPackLarge: layers that no directory of ext4 could be, read through their mount.
func TestRootPackLarge(t *testing.T) {
	needRoot(t)
	entries := []entry{reg("f", "content"), {tar.Header{Name: "attributes", Format: tar.FormatPAX, PAXRecords: map[string]string{
		paxXattr + "user." + strings.Repeat("n", 250): strings.Repeat("v", 65_000), paxXattr + "trusted.second": strings.Repeat("w", 65_535)}}, ""}}
	const links, wide = 70_000, 3_000
	for i := range links {
		entries = append(entries, hardlink(fmt.Sprint("links/", i), "f"))
	}
	for i := range wide {
		entries = append(entries, reg(fmt.Sprintf("wide/%s%05d", strings.Repeat("\xff\xfe\x80", 83), i), fmt.Sprint(i)))
	}
	path, _, err := packTar(t, pack(t, entries...))
	if err != nil {
		t.Fatal(err)
	}
	at, unmount := mounted(t, path)
	defer unmount()
	if st := lstat(t, at, fmt.Sprint("links/", links-1)); st.Nlink != links+1 || read(t, at, "links/7") != "content" {
		t.Errorf("%d links", st.Nlink)
	}
	found := names(t, at+"/wide")
	if len(found) != wide || len(names(t, at+"/links")) != links {
		t.Errorf("%d names", len(found))
	}
	for i, name := range found { // ReadDir sorts
		if read(t, at, "wide", name) != fmt.Sprint(i) {
			t.Errorf("%q has the content of another", name)
		}
	}
	value := make([]byte, 1<<17)
	for name, want := range map[string]int{"user." + strings.Repeat("n", 250): 65_000, "trusted.second": 65_535} {
		if n, err := unix.Getxattr(at+"/attributes", name, value); err != nil || n != want {
			t.Errorf("%s: %d bytes, %v", name[:10], n, err)
		}
	}
}

// TestRootPackLongAttribute: one whose name Linux can't say (XATTR_NAME_MAX of limits.h) would keep its file from being written to over a packed layer.
func TestRootPackLongAttribute(t *testing.T) {
	needRoot(t)
	long := entry{tar.Header{Name: "f", Format: tar.FormatPAX, PAXRecords: map[string]string{paxXattr + "user." + strings.Repeat("n", 251): "v"}}, ""}
	if _, _, err := packTar(t, pack(t, long)); !errors.Is(err, ErrNotPacked) {
		t.Errorf("got %v", err)
	}
}
