package sandbox

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// An archive has its directory's files by their names there, and appears whole or not at all.
func TestWriteArchive(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "checkpoint"), 0o700), os.WriteFile(filepath.Join(dir, "checkpoint", "core-1.img"), []byte("state"), 0o600),
		os.WriteFile(filepath.Join(dir, "spec.dump"), []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(to, "x.tar")
	ended, end := context.WithCancelCause(t.Context())
	end(ErrTimeout)
	if err := writeArchive(ended, dir, path); !errors.Is(err, ErrTimeout) {
		t.Errorf("when its time was over: %v", err)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := writeArchive(t.Context(), dir, path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, in := map[string]string{}, tar.NewReader(f)
	for h, err := in.Next(); !errors.Is(err, io.EOF); h, err = in.Next() {
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(text)
	}
	if content, dir := got["checkpoint/core-1.img"], got["checkpoint/"]; len(got) != 3 || content != "state" || dir != "" || got["spec.dump"] != "{}" {
		t.Errorf("in the archive: %q", got)
	}
}
