package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// checkOrigin holds every layer that a test unpacks against what it becomes when it is put together again.
func checkOrigin(t testing.TB, dir string, raw []byte, done Unpacked, origin *bytes.Buffer) {
	t.Helper()
	if done.TarSize != int64(len(raw)) {
		t.Errorf("the tar has %d bytes, and %d were counted", len(raw), done.TarSize)
	}
	if !done.Origin {
		return
	}
	var again bytes.Buffer
	if err := Assemble(t.Context(), dir, bytes.NewReader(origin.Bytes()), &again); err != nil {
		t.Errorf("assemble: %v", err)
	} else if !bytes.Equal(again.Bytes(), raw) {
		t.Error("the tar is another one when it is put together again")
	}
	if err := Check(t.Context(), dir, bytes.NewReader(origin.Bytes()), digest.FromBytes(raw)); err != nil {
		t.Errorf("check: %v", err)
	}
}

func unpackWithOrigin(t testing.TB, raw []byte) (dir string, origin []byte, done Unpacked) {
	t.Helper()
	dir = t.TempDir()
	var buf bytes.Buffer
	done, err := Unpack(t.Context(), dir, &buf, from(bytes.NewReader(raw)), promise(raw, raw, ""), NewBudget(1<<30, 1<<20, MaxWindow), nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir, buf.Bytes(), done
}

// TestRootOrigin: odd tars come out as they were, byte for byte, and most of them isn't kept twice.
func TestRootOrigin(t *testing.T) {
	needRoot(t)
	big := strings.Repeat("content of a file. ", 50_000)
	raw := pack(t, folder("d/", 0o755), reg("d/f", big), reg("d/empty", ""), symlink("l", "d"), reg("l/through", "x"), hardlink("h", "d/f"),
		reg(".wh.gone", ""), reg("d/"+strings.Repeat("long", 60), "pax"))
	raw = append(raw, bytes.Repeat([]byte{7}, 5000)...) // behind the end mark
	dir, origin, done := unpackWithOrigin(t, raw)
	if !done.Origin {
		t.Fatal("no origin")
	}
	checkOrigin(t, dir, raw, done, bytes.NewBuffer(origin))
	if len(origin) > 5000 {
		t.Errorf("the origin has %d bytes", len(origin))
	}
	damage := func(name string, f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		err := Assemble(t.Context(), dir, bytes.NewReader(origin), &again)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Check(t.Context(), dir, bytes.NewReader(origin), digest.FromBytes(raw)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: check: %v", name, err)
		}
	}
	file := filepath.Join(dir, "d/f")
	damage("another mode", func() error { return os.Chmod(file, 0o600) })
	damage("another owner", func() error { return errors.Join(os.Chmod(file, 0o644), os.Chown(file, 1, 0)) })
	if err := os.Chown(file, 0, 0); err != nil {
		t.Fatal(err)
	}
	damage("a changed byte", func() error { return os.WriteFile(file, []byte("C"+big[1:]), 0o644) })
	damage("a shorter file", func() error { return os.Truncate(file, 100) })
	damage("no file", func() error { return os.Remove(file) })
	damage("a link out", func() error { return os.Symlink("/etc/passwd", file) })
	if err := Assemble(t.Context(), dir, bytes.NewReader(origin[:len(origin)/2]), new(bytes.Buffer)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("half an origin: %v", err)
	}
}

// TestRootOriginLost: a tar that brings a file twice can't be made again, and that is known.
func TestRootOriginLost(t *testing.T) {
	needRoot(t)
	if _, _, done := unpackWithOrigin(t, pack(t, reg("f", "one"), reg("f", "two"))); done.Origin {
		t.Error("an origin without the first content")
	}
	sparse := tar.Header{Name: "s", Size: 5, Mode: 0o644}
	if _, _, done := unpackWithOrigin(t, pack(t, entry{sparse, "abcde"})); !done.Origin {
		t.Error("no origin of a plain file")
	}
}

func FuzzAssemble(f *testing.F) {
	f.Add([]byte{0, 1, 'f', 3, 2, 'a', 'b'})
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("abc"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		var origin, out bytes.Buffer
		w, err := newOriginWriter(nil, &origin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.out.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.out.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Assemble(t.Context(), dir, &origin, &out); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
}
