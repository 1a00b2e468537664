package hostdev

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func TestLookup(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/zero", link); err != nil {
		t.Fatal(err)
	}
	got, err := Lookup([]spec.Device{
		{HostPath: "/dev/null", ContainerPath: "/dev/nothing", Permissions: "rw"},
		{HostPath: link, ContainerPath: "/dev/linked/", Permissions: "r"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("found %v", got)
	}
	if d := got[0]; d.Path != "/dev/nothing" || d.Type != "c" || d.Major != 1 || d.Minor != 3 || d.Access != "rw" || *d.FileMode != 0o666 {
		t.Errorf("null is %+v", d)
	}
	if d := got[1]; d.Path != "/dev/linked" || d.Minor != 5 || d.Access != "r" {
		t.Errorf("the link's end is %+v", d)
	}
}

func TestLookupBad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{file: ErrNotDevice, file + ".none": fs.ErrNotExist} {
		if _, err := Lookup([]spec.Device{{HostPath: path, ContainerPath: "/dev/x", Permissions: "r"}}); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestRootLookupDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making device nodes needs root")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, dev := range map[string]uint64{"a": unix.Mkdev(1, 3), "sub/b": unix.Mkdev(7, 300)} {
		mode := uint32(unix.S_IFCHR | 0o600)
		if name == "sub/b" {
			mode = unix.S_IFBLK | 0o640
		}
		if err := unix.Mknod(filepath.Join(dir, name), mode, int(dev)); err != nil {
			t.Skip("this machine makes no device nodes: ", err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Lookup([]spec.Device{{HostPath: dir, ContainerPath: "/dev/all", Permissions: "rwm"}})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, d := range got {
		paths = append(paths, d.Path+" "+d.Type)
	}
	slices.Sort(paths)
	if !slices.Equal(paths, []string{"/dev/all/a c", "/dev/all/sub/b b"}) {
		t.Errorf("found %v", paths)
	}
	for _, d := range got {
		if d.Path == "/dev/all/sub/b" && (d.Major != 7 || d.Minor != 300 || *d.FileMode != 0o640) {
			t.Errorf("b is %+v", d)
		}
	}
}

func TestAll(t *testing.T) {
	got, err := All()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range got {
		if seen[d.Path] {
			t.Errorf("%s twice", d.Path)
		}
		seen[d.Path] = true
		if filepath.Dir(d.Path) == "/dev/pts" || d.Path == "/dev/ptmx" || d.Path == "/dev/console" {
			t.Errorf("%s is a terminal", d.Path)
		}
	}
	if !seen["/dev/null"] {
		t.Error("no /dev/null")
	}
}
