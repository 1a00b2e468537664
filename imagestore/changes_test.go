package imagestore

import (
	"os"
	"path/filepath"
	"testing"
)

// What one container changed is seen in another that got it, and nothing else is.
func TestRootChanges(t *testing.T) {
	s, img := pulled(t, layerOf(t, dir("etc/"), f("etc/kept", "image's"), f("etc/removed", "x"), f("etc/changed", "image's"), dir("opt/"), f("opt/below", "x")))
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	mount, err := s.MountSnapshot("c1", "")
	if err != nil {
		t.Fatal(err)
	}
	at := attach(t, mount)
	mount.Close()
	for _, err := range []error{
		os.Remove(filepath.Join(at, "etc/removed")),
		os.WriteFile(filepath.Join(at, "etc/changed"), []byte("container's"), 0o644),
		os.Mkdir(filepath.Join(at, "new"), 0o711),
		os.WriteFile(filepath.Join(at, "new/file"), []byte("new"), 0o600),
		os.Symlink("/etc/kept", filepath.Join(at, "new/link")),
		os.RemoveAll(filepath.Join(at, "opt")),
		os.Mkdir(filepath.Join(at, "opt"), 0o755), // opaque: what is below is gone
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "changes.tar")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := s.WriteChanges(t.Context(), "c1", file); err != nil {
		t.Fatal(err)
	}

	if err := s.PrepareSnapshot(t.Context(), "c2", img.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.ApplyChanges(t.Context(), "c2", path); err != nil {
		t.Fatal(err)
	}
	second, err := s.MountSnapshot("c2", "")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for name, want := range map[string]string{"etc/kept": "image's", "etc/changed": "container's", "new/file": "new"} {
		if got := readMounted(t, second, name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	there := attach(t, second)
	for _, name := range []string{"etc/removed", "opt/below"} {
		if _, err := os.Lstat(filepath.Join(there, name)); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	if link, err := os.Readlink(filepath.Join(there, "new/link")); err != nil || link != "/etc/kept" {
		t.Errorf("link to %q, %v", link, err)
	}
	for name, want := range map[string]os.FileMode{"new": 0o711, "etc/changed": 0o644, "": 0o755} {
		if st, err := os.Stat(filepath.Join(there, name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("mode of /%s: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestRootChangesOfNothing(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "x")))
	if err := s.WriteChanges(t.Context(), "none", nil); err == nil {
		t.Error("changes of a snapshot that isn't there")
	}
	if err := s.PrepareSnapshot(t.Context(), "c", img.ID); err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(t.TempDir(), "torn.tar")
	if err := os.WriteFile(torn, []byte("no tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ApplyChanges(t.Context(), "c", torn); err == nil {
		t.Error("what is no tar was applied")
	}
}
