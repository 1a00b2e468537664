package project

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What it does where projects are counted is looked at in a store, on an ext4 of its own: TestRootProject… of imagestore.

// TestOpenElsewhere: a file system that counts no projects is ErrUnsupported, and nothing else.
func TestOpenElsewhere(t *testing.T) {
	for _, dir := range []string{"/proc", "/sys", "/dev/shm"} {
		if p, err := Open(dir); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v, %v", dir, p, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// TestAssignElsewhere fails, and changes nothing.
func TestAssignElsewhere(t *testing.T) {
	root, err := os.Open("/dev/shm")
	if err != nil {
		t.Fatal(err)
	}
	p := &Projects{root}
	defer p.Close()
	dir, err := os.MkdirTemp("/dev/shm", "berth-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	if err := p.Assign(dir); !errors.Is(err, ErrUnsupported) && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("got %v", err)
	}
	if _, _, err := p.Usage(dir); err == nil {
		t.Error("it has a usage")
	}
}
