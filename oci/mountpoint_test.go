package oci

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Links of an image that lead to nothing: mountpoints are made where they lead, in the image.
func TestRootMountpointsAtTheEndOfLinks(t *testing.T) {
	needRoot(t)
	dir, outside := rootDir(t), t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "var"), 0o755),
		os.Symlink("/run", filepath.Join(dir, "var/run")),
		os.Symlink("../../../.."+outside+"/new", filepath.Join(dir, "climb")),
		os.Symlink("second", filepath.Join(dir, "first")),
		os.Symlink("var/run/third", filepath.Join(dir, "second")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	src := t.TempDir()
	file := filepath.Join(src, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := testSpec()
	for dest, source := range map[string]string{"/var/run/secrets/token": src, "/climb/deep": src, "/first/of/them": file} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Source: source, Type: "bind", Options: []string{"rbind", "ro"}})
	}
	r, err := runContainer(t, testNode(t), Container{Spec: s}, dir)
	if err != nil || r.status != 0 {
		t.Fatalf("%v, status %v %s", err, r.status, r.stderr)
	}
	for _, want := range []string{"/run/secrets/token", outside + "/new/deep", "/run/third/of/them"} {
		if !slices.ContainsFunc(r.Mounts, func(m string) bool { return strings.HasPrefix(m, want+" ") }) {
			t.Errorf("nothing is mounted on %s: %q", want, r.Mounts)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("on the host: %v", left)
	}
	s = testSpec()
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/loop/x", Source: src, Type: "bind", Options: []string{"rbind"}})
	if _, err := runContainer(t, testNode(t), Container{Spec: s}, dir); err == nil || !strings.Contains(err.Error(), "/loop/x: too many levels of symbolic links") {
		t.Errorf("a loop: %v", err)
	}
}
