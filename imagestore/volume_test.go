package imagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

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

// TestRootCopyVolumeLinks: hard links stay links, to what they were links to: numbers of inodes are those of a layer, and another layer has the same.
func TestRootCopyVolumeLinks(t *testing.T) {
	layers := make([]v1.Layer, 3)
	for i := range layers {
		name := fmt.Sprintf("data/%d", i)
		second := f(name+"-again", "")
		second.Typeflag, second.Linkname = '1', name
		layers[i] = layerOf(t, dir("data/"), f(name, fmt.Sprint(i)), second)
	}
	s, img := pulled(t, layers...)
	if err := s.PrepareSnapshot(t.Context(), "c", img.ID); err != nil {
		t.Fatal(err)
	}
	root, err := s.MountSnapshot("c", "")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := s.CopyVolume("c", 0, root, "/data"); err != nil {
		t.Fatal(err)
	}
	at := s.VolumePath("c", 0)
	for i := range layers {
		one, two := filepath.Join(at, fmt.Sprint(i)), filepath.Join(at, fmt.Sprint(i)+"-again")
		if b, err := os.ReadFile(one); err != nil || string(b) != fmt.Sprint(i) {
			t.Errorf("%d: %q, %v", i, b, err)
		}
		var first, second unix.Stat_t
		if err := errors.Join(unix.Stat(one, &first), unix.Stat(two, &second)); err != nil || first.Ino != second.Ino || first.Nlink != 2 {
			t.Errorf("%d: inodes %d and %d, %d links, %v", i, first.Ino, second.Ino, first.Nlink, err)
		}
	}
}

// TestRootCopyVolumeKinds: whatever is in a volume comes with its owner, mode, time and attributes.
func TestRootCopyVolumeKinds(t *testing.T) {
	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	entries := []file{dir("data/"), f("data/setuid", "x"), f("data/link", ""), f("data/device", ""), f("data/fifo", ""), dir("data/sub/"), f("data/sub/in", "y")}
	for i := range entries {
		entries[i].Uid, entries[i].Gid, entries[i].Mode, entries[i].ModTime = 10+i, 20+i, 0o750, when
	}
	entries[1].Mode = 0o4755
	entries[1].PAXRecords = map[string]string{"SCHILY.xattr.user.note": "hello"}
	entries[2].Typeflag, entries[2].Linkname = '2', "nowhere"
	entries[3].Typeflag, entries[3].Devmajor, entries[3].Devminor = '3', 1, 3
	entries[4].Typeflag = '6'
	s, img := pulled(t, layerOf(t, entries...))
	if err := s.PrepareSnapshot(t.Context(), "c", img.ID); err != nil {
		t.Fatal(err)
	}
	root, err := s.MountSnapshot("c", "")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := s.CopyVolume("c", 0, root, "/data"); err != nil {
		t.Fatal(err)
	}
	at := s.VolumePath("c", 0)
	for i, e := range entries {
		var st, want unix.Stat_t
		name := strings.TrimPrefix(e.Name, "data")
		if err := errors.Join(unix.Lstat(at+strings.TrimSuffix(name, "/"), &st), unix.Fstatat(int(root.Fd()), strings.TrimSuffix(e.Name, "/"), &want, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
			t.Error(err)
			continue
		}
		if st.Uid != uint32(10+i) || st.Gid != uint32(20+i) || st.Mode != want.Mode || st.Rdev != want.Rdev || st.Mtim.Sec != when.Unix() {
			t.Errorf("%s: user %d, group %d, mode %o of %o, device %x, time %d", e.Name, st.Uid, st.Gid, st.Mode, want.Mode, st.Rdev, st.Mtim.Sec)
		}
	}
	value := make([]byte, 16)
	if n, err := unix.Lgetxattr(at+"/setuid", "user.note", value); err != nil || string(value[:n]) != "hello" {
		t.Errorf("attribute %q, %v", value, err)
	}
}
