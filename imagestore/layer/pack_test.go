package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// packTar packs a layer.
func packTar(t testing.TB, raw []byte) (string, Unpacked, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "packed")
	done, err := NewPacker(64<<20).Pack(t.Context(), path, from(bytes.NewReader(raw)), promise(raw, raw, ""), NewBudget(1<<30, 1<<20, MaxWindow), nil)
	return path, done, err
}

// checkTwin holds a layer that was unpacked, or couldn't be, against the same one packed.
func checkTwin(t testing.TB, dir string, raw []byte, unpackErr error, done Unpacked) {
	t.Helper()
	path, packed, err := packTar(t, raw)
	if errors.Is(err, ErrNotPacked) {
		if unpackErr == nil {
			checkUnpackPacked(t, path, raw, packed)
		}
		return
	}
	for _, class := range []error{nil, ErrCorrupt, ErrTooLarge} {
		if errors.Is(err, class) != errors.Is(unpackErr, class) {
			t.Errorf("unpacked: %v; packed: %v", unpackErr, err)
		}
	}
	if err != nil || unpackErr != nil {
		return
	}
	implied := slices.Sorted(slices.Values(done.Implied))
	var late []string
	for _, dir := range packed.Late {
		late = append(late, dir.Path)
	}
	if slices.Sort(late); !slices.Equal(implied, late) || packed.OpaqueRoot != done.OpaqueRoot || packed.TarSize != done.TarSize {
		t.Errorf("unpacked: implied %q, opaque root %v; packed: late %q, opaque root %v", implied, done.OpaqueRoot, late, packed.OpaqueRoot)
	}
	if err := CheckPacked(t.Context(), path, packed.TarSize, digest.FromBytes(raw)); err != nil {
		t.Errorf("check packed: %v", err)
	}
	at, unmount := mounted(t, path)
	defer unmount()
	want, got := seenBy(t, dir, done.Implied), seenBy(t, at, done.Implied)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%q: packed %s, unpacked %s", name, got[name], want[name])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("only when packed: %v", got)
	}
}

// mounted mounts a packed layer.
func mounted(t testing.TB, path string) (at string, unmount func()) {
	t.Helper()
	mount, err := erofs.Mount(path)
	if errors.Is(err, unix.ENOTBLK) || errors.Is(err, unix.ENODEV) {
		t.Skipf("needs Linux 6.12 with EROFS: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", mount.Fd()), func() { mount.Close() }
}

// seenBy says of every file what a container could see.
func seenBy(t testing.TB, dir string, implied []string) map[string]string {
	t.Helper()
	all := map[string]string{}
	firsts := map[uint64]string{}                                                             // the first names of files with several
	err := filepath.WalkDir(dir+"/.", func(path string, entry fs.DirEntry, err error) error { // dir may be a link of /proc
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if name == "." {
			name = ""
		}
		said := fmt.Sprintf("mode %o owner %d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			said += fmt.Sprintf(" links %d", st.Nlink)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			said += fmt.Sprintf(" to %q, %v", target, err)
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			said += fmt.Sprintf(" %d bytes %s, %v", st.Size, digest.FromBytes(content), err)
		default:
			said += fmt.Sprintf(" device %x", st.Rdev)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if firsts[st.Ino] == "" {
				firsts[st.Ino] = name
			}
			said += fmt.Sprintf(" links %d, of %s", st.Nlink, firsts[st.Ino])
		}
		if slices.Contains(implied, name) {
			said = strings.Replace(said, "mode 40700", "mode 40755", 1) // not adopted yet
		} else {
			// A directory that only this layer makes, without an entry, has the time of its making, or none.
			if !isWhiteout(&st) && time.Since(time.Unix(st.Mtim.Unix())) > 10*time.Minute && st.Mtim.Sec > 0 {
				said += fmt.Sprintf(" time %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
			}
		}
		all[name] = said + xattrsAt(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func xattrsAt(t testing.TB, path string) (said string) {
	t.Helper()
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		said += fmt.Sprintf(" %s=%s, %v", name, digest.FromBytes(value[:max(n, 0)]), err)
	}
	return said
}

// checkUnpackPacked: what can't be packed is unpacked from the file.
func checkUnpackPacked(t testing.TB, path string, raw []byte, packed Unpacked) {
	t.Helper()
	dir := t.TempDir()
	var origin bytes.Buffer
	want := promise(raw, raw, "")
	done, err := UnpackPacked(t.Context(), path, packed.TarSize, dir, &origin, want, NewBudget(1<<30, 1<<20, MaxWindow), nil)
	if err != nil {
		t.Errorf("unpack what was packed: %v", err)
		return
	}
	checkOrigin(t, dir, raw, done, &origin)
}

// TestRootPackOdd are layers of which the format's limits are tried.
func TestRootPackOdd(t *testing.T) {
	needRoot(t)
	attributes := func(name string, kind byte, linkname string, sizes ...int) entry {
		records := map[string]string{}
		for i, size := range sizes {
			records[fmt.Sprintf("%ssecurity.n%d", paxXattr, i)] = strings.Repeat("v", size)
		}
		return entry{tar.Header{Name: name, Typeflag: kind, Linkname: linkname, Mode: 0o755, Format: tar.FormatPAX, PAXRecords: records}, ""}
	}
	var wide []entry
	for i := range 3000 {
		wide = append(wide, reg(fmt.Sprintf("wide/%d%s", i, strings.Repeat("x", i%200)), "c"))
	}
	for name, entries := range map[string][]entry{
		"nothing":           {},
		"empty files":       {reg("a", ""), reg("b", ""), folder("d/", 0o755)},
		"wide":              wide,
		"names around dots": {reg("!", "1"), reg("-", "2"), reg(".-", "3"), reg("..x", "4"), reg("/...", "5"), reg("\xff\xfe", "6")},
		"long targets":      {symlink("short", "t"), symlink("block", strings.Repeat("t", 448)), symlink("more", strings.Repeat("t", 449)), symlink("most", strings.Repeat("t", 4095))},
		"a target a length": func() (all []entry) {
			for i := 1; i < 600; i += 7 {
				all = append(all, symlink(fmt.Sprint(i), strings.Repeat("t", i)))
			}
			return all
		}(),
		"many attributes": {attributes("f", tar.TypeReg, "", 1, 2, 3, 4, 5, 100, 700), attributes("l", tar.TypeSymlink, "target", 30), attributes("d/", tar.TypeDir, "", 1000, 5)},
		"content":         {reg("exact", strings.Repeat("x", 512)), reg("page", strings.Repeat("y", 4096)), reg("more", strings.Repeat("z", 200_001))},
		"two links deep":  {folder("a/b/c/", 0o755), reg("a/b/c/f", "1"), hardlink("z", "a/b/c/f"), hardlink("a/y", "z")},
		"link replaced":   {reg("a", "1"), hardlink("b", "a"), reg("a", "2"), hardlink("c", "b")},
		"device numbers":  {{tar.Header{Name: "dev", Typeflag: tar.TypeBlock, Devmajor: 4095, Devminor: 1<<20 - 1}, ""}},
		"global header":   {{tar.Header{Name: "pax_global_header", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""}, reg("a", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := unpackTar(t, pack(t, entries...)); err != nil { // which holds the two against each other
				t.Fatal(err)
			}
		})
	}
}

// TestRootNotPacked: what a packed layer can't have is said, and the layer is unpacked from the file, with all that it takes of the budget taken once.
func TestRootNotPacked(t *testing.T) {
	needRoot(t)
	acl := reg("acl", "x")
	acl.Format, acl.PAXRecords = tar.FormatPAX, map[string]string{paxXattr + "system.posix_acl_access": "\x02\x00\x00\x00" +
		"\x01\x00\x06\x00\xff\xff\xff\xff\x04\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"}
	for name, raw := range map[string][]byte{"sparse": sparse(t, 1<<20, "tail"), "acl": pack(t, folder("d/", 0o755), acl), "many": pack(t, reg("a", "1"), reg("b", "2"))} {
		t.Run(name, func(t *testing.T) {
			memory := int64(64 << 20)
			if name == "many" {
				memory = inodeCost + 20
			}
			packer := NewPacker(memory)
			path := filepath.Join(t.TempDir(), "packed")
			budget := NewBudget(1<<20+10, 2, MaxWindow)
			packed, err := packer.Pack(t.Context(), path, from(bytes.NewReader(raw)), promise(raw, raw, ""), budget, nil)
			if !errors.Is(err, ErrNotPacked) || packed.TarSize != int64(len(raw)) {
				t.Fatalf("got %+v, %v", packed, err)
			}
			if left := packer.room.left.Load(); left != memory {
				t.Errorf("%d of %d bytes are left", left, memory)
			}
			done, err := UnpackPacked(t.Context(), path, packed.TarSize, t.TempDir(), nil, promise(raw, raw, ""), budget, nil)
			if err != nil || done.TarSize != int64(len(raw)) {
				t.Errorf("got %+v, %v", done, err)
			}
		})
	}
}

// TestRootAdoptPacked: as TestRootAdopt, of packed layers.
func TestRootAdoptPacked(t *testing.T) {
	needRoot(t)
	parent := entry{tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7, Gid: 8, Format: tar.FormatPAX,
		PAXRecords: map[string]string{paxXattr + "user.from": "below"}}, ""}
	base, _, err := packTar(t, pack(t, folder("./", 0o711), parent, folder("hidden/", 0o700), folder("hidden/sub/", 0o700)))
	if err != nil {
		t.Fatal(err)
	}
	top, done, err := packTar(t, pack(t, reg("tmp/.wh..wh..opq", ""), reg("tmp/f", ""), reg("hidden/.wh..wh..opq", ""), reg("hidden/sub/f", ""), reg("new/f", "")))
	if err != nil {
		t.Fatal(err)
	}
	at, unmount := mounted(t, base)
	defer unmount()
	lowers := []string{at}
	for range 2 {
		if err := AdoptPacked(top, done.Late, lowers); err != nil {
			t.Fatal(err)
		}
	}
	dir, unmount := mounted(t, top)
	defer unmount()
	for name, want := range map[string]string{".": "711 0:0", "tmp": "1777 7:8", "hidden": "700 0:0", "hidden/sub": "755 0:0", "new": "755 0:0"} {
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/"+name, &st); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%o %d:%d", st.Mode&permBits, st.Uid, st.Gid); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	value := make([]byte, 16)
	for attr, want := range map[string]string{"user.from": "below", opaqueXattr: "y"} {
		if n, err := unix.Getxattr(filepath.Join(dir, "tmp"), attr, value); err != nil || string(value[:n]) != want {
			t.Errorf("%s: %q, %v", attr, value[:max(n, 0)], err)
		}
	}
}

// TestRootCheckPacked: each byte that is another one is found.
func TestRootCheckPacked(t *testing.T) {
	needRoot(t)
	attribute := reg("attribute", "x")
	attribute.Format, attribute.PAXRecords = tar.FormatPAX, map[string]string{paxXattr + "user.a": "b"}
	raw := pack(t, folder("d/", 0o755), reg("d/f", "content"), attribute, symlink("l", "d"), symlink("long", strings.Repeat("t", 1000)), reg("implied/f", "x"))
	raw = append(raw, make([]byte, 700)...) // a tar may be of any length
	path, done, err := packTar(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	check := func() error { return CheckPacked(t.Context(), path, done.TarSize, digest.FromBytes(raw)) }
	if err := AdoptPacked(path, done.Late, nil); err != nil {
		t.Fatal(err)
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var amended []int64 // places that hold what AdoptPacked wrote
	for _, dir := range done.Late {
		amended = append(amended, dir.place)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := range whole {
		if _, err := f.WriteAt([]byte{whole[at] ^ 1<<(at%8)}, int64(at)); err != nil {
			t.Fatal(err)
		}
		free := slices.ContainsFunc(amended, func(place int64) bool { return isAmendable(int64(at) - place) })
		if err := check(); !errors.Is(err, ErrCorrupt) && !free || err != nil && free {
			t.Errorf("byte %d: %v", at, err)
		}
		if _, err := f.WriteAt(whole[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	metadata := erofs.HeaderSize + (len(raw)+4095)/4096*4096
	for _, size := range []int{0, 100, erofs.HeaderSize + 600, metadata, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := check(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut off after %d bytes: %v", size, err)
		}
	}
}

// isAmendable tells whether a byte of a late directory may be anything: its count of attributes and mode, its owner and time, and its attributes.
func isAmendable(at int64) bool {
	return at >= 2 && at < 6 || at >= 24 && at < 44 || at >= 64 && at < erofs.LateSize
}
