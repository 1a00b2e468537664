package selinux

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const testLabel = "system_u:object_r:container_file_t:s0:c1,c2"

// labelAt reads a file's label, a symlink's too; "" is none.
func labelAt(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, attribute, buf)
	if errors.Is(err, unix.ENODATA) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(buf[:n]), "\x00")
}

// TestRootRelabel needs no SELinux: without it a label is an attribute like others, which root may set.
func TestRootRelabel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it sets attributes of the kernel's")
	}
	dir := t.TempDir()
	outside, volume, link := filepath.Join(dir, "outside"), filepath.Join(dir, "volume"), filepath.Join(dir, "link")
	for _, d := range []string{outside, filepath.Join(volume, "deep/deeper")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret, file := filepath.Join(outside, "secret"), filepath.Join(volume, "deep/deeper/file")
	for _, f := range []string{secret, file} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{link: volume, filepath.Join(volume, "way-out"): outside, filepath.Join(volume, "deep/file-out"): secret} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	h := &Host{}
	if err := h.Relabel(link, testLabel); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		volume: testLabel, filepath.Join(volume, "deep"): testLabel, filepath.Join(volume, "deep/deeper"): testLabel, file: testLabel,
		filepath.Join(volume, "way-out"): testLabel, filepath.Join(volume, "deep/file-out"): testLabel,
		outside: "", secret: "", link: "",
	} {
		if got := labelAt(t, path); got != want {
			t.Errorf("%s has label %q, not %q", path, got, want)
		}
	}
	if err := h.SetLabel(secret, testLabel); err != nil || labelAt(t, secret) != testLabel {
		t.Errorf("one file: %v, %q", err, labelAt(t, secret))
	}
	if err := h.Relabel("/proc/self/task", testLabel); err != nil { // proc has no labels to be set
		t.Errorf("a file system without labels: %v", err)
	}
	if err := h.Relabel(filepath.Join(dir, "missing"), testLabel); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is missing: %v", err)
	}
}

func TestSystemDirectoriesAreNotRelabelled(t *testing.T) {
	slash := filepath.Join(t.TempDir(), "slash")
	if err := os.Symlink("/", slash); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/etc", "/usr/", "/var/lib", slash, slash + "/etc"} {
		if err := (&Host{}).Relabel(path, testLabel); !errors.Is(err, ErrSystemDirectory) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestLevelOf(t *testing.T) {
	for testLabel, want := range map[string]string{"u:r:t:s0:c1,c2": "s0:c1,c2", "u:r:t:s0": "s0", "u:r:t": "", "": ""} {
		if got := levelOf(testLabel); got != want {
			t.Errorf("%q: %q", testLabel, got)
		}
	}
}
