package imagestore

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRootSpareSnapshot: what was made ahead becomes the next snapshot's, and is like any other; a sweep leaves it, Close doesn't.
func TestRootSpareSnapshot(t *testing.T) {
	root := dir("./")
	root.Mode = 0o711
	s, img := pulled(t, layerOf(t, root, f("a", "1")))
	staging := filepath.Join(s.root, "staging")
	for range 2 { // one is enough
		if err := s.ExpectSnapshot(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.janitor.sweepNow(); err != nil {
		t.Fatal(err)
	}
	if n := len(entries(t, staging)); n != 1 {
		t.Fatalf("%d directories in staging", n)
	}
	for _, key := range []string{"ahead", "not-ahead"} {
		if err := s.PrepareSnapshot(t.Context(), key, img.ID); err != nil {
			t.Fatal(err)
		}
		mount, err := s.MountSnapshot(key, "")
		if err != nil {
			t.Fatal(err)
		}
		at := attach(t, mount)
		mount.Close()
		if st, err := os.Stat(at); err != nil || st.Mode().Perm() != 0o711 {
			t.Errorf("%s: root: %v, %v", key, st.Mode(), err)
		}
		if err := os.WriteFile(filepath.Join(at, "b"), nil, 0o644); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if n := len(entries(t, staging)); n != 0 {
		t.Errorf("%d directories in staging, and one was for the first snapshot", n)
	}
	if err := s.ExpectSnapshot(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(entries(t, staging)); n != 0 {
		t.Errorf("Close left %d directories in staging", n)
	}
}
