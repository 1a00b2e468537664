package imagestore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/test/userns"
)

// TestRootCopyVolume: a volume has what the image has there, and goes with the snapshot.
func TestRootCopyVolume(t *testing.T) {
	data, file, escape := dir("data/"), f("data/sub/a", "content"), f("data/out", "")
	data.Mode, data.Uid, data.Gid = 0o1770, 7, 8
	file.Uid, file.Mode = 1000, 0o640
	escape.Typeflag, escape.Linkname = '2', "../../../../../../etc/passwd"
	link, wrong := f("link", ""), f("wrong", "x")
	link.Typeflag, link.Linkname = '2', "../../../../data"
	s, img := pulled(t, layerOf(t, data, file, escape, link, wrong))
	for name, mapped := range map[string]bool{"as it is": false, "in a user namespace": true} {
		t.Run(name, func(t *testing.T) {
			add := uint32(0)
			var users *os.File
			if mapped {
				add, users = 500000, userns.New(t, 500000)
				if err := s.PrepareMapped(t.Context(), "c", img.ID, kubelets(500000)); err != nil {
					t.Fatal(err)
				}
			} else if err := s.PrepareSnapshot(t.Context(), "c", img.ID); err != nil {
				t.Fatal(err)
			}
			root, err := s.mountSnapshot("c", users, "")
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			for i, path := range []string{"/data", "/link", "/none/at/all"} {
				if err := s.CopyVolume("c", i, root, path); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 2 {
				at := s.VolumePath("c", i)
				if st, err := os.Stat(at); err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o770 {
					t.Errorf("%d is %v, %v", i, st.Mode(), err)
				}
				if got := owner(t, at); got != [2]uint32{7 + add, 8 + add} {
					t.Errorf("%d belongs to %v", i, got)
				}
				if got := owner(t, filepath.Join(at, "sub/a")); got != [2]uint32{1000 + add, add} {
					t.Errorf("a file of %d belongs to %v", i, got)
				}
				if b, err := os.ReadFile(filepath.Join(at, "sub/a")); err != nil || string(b) != "content" {
					t.Errorf("a file of %d: %q, %v", i, b, err)
				}
				if to, err := os.Readlink(filepath.Join(at, "out")); err != nil || !strings.HasPrefix(to, "../..") {
					t.Errorf("a link of %d: %q, %v", i, to, err)
				}
			}
			if left, err := os.ReadDir(s.VolumePath("c", 2)); err != nil || len(left) > 0 || owner(t, s.VolumePath("c", 2)) != [2]uint32{add, add} {
				t.Errorf("a volume of nothing: %v, %v", left, err)
			}
			if err := s.CopyVolume("c", 3, root, "/wrong"); !errors.Is(err, ErrUnsupported) {
				t.Errorf("a file: %v", err)
			}
			if err := s.CopyVolume("other", 0, root, "/data"); !errors.Is(err, ErrNotFound) {
				t.Errorf("no such snapshot: %v", err)
			}
			if err := s.RemoveSnapshot("c"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(s.VolumePath("c", 0)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after the removal: %v", err)
			}
		})
	}
}
