package imagestore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// TestRootExport: an exported image is the same one when it is imported, here or by others.
func TestRootExport(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	base := layerOf(t, dir("etc/"), f("etc/hostname", "base"), f("gone", "x"))
	push(t, ref(host, "one:1"), imageOf(t, base, layerOf(t, f("bin/tool", strings.Repeat("new", 100_000)), f(".wh.gone", ""))))
	push(t, ref(host, "two:2"), imageOf(t, base))
	one, two := mustPull(t, s, ref(host, "one:1")), mustPull(t, s, ref(host, "two:2"))
	var archive bytes.Buffer
	if err := s.Export(t.Context(), []string{ref(host, "one:1"), two.ID}, &archive); err != nil {
		t.Fatal(err)
	}
	other := newTestStore(t)
	images, err := other.Import(t.Context(), bytes.NewReader(archive.Bytes()), "")
	if err != nil || len(images) != 2 {
		t.Fatalf("%d images, %v", len(images), err)
	}
	for i, want := range []*Image{one, two} {
		if images[i].ID != want.ID || !slices.Equal(images[i].Tags, want.Tags) {
			t.Errorf("%+v, want %+v", images[i], want)
		}
	}
	var again bytes.Buffer
	if err := other.Export(t.Context(), []string{ref(host, "one:1"), two.ID}, &again); err != nil || !bytes.Equal(again.Bytes(), archive.Bytes()) {
		t.Errorf("exported again it is another archive: %v", err)
	}
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref(host, "one:1"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatalf("as a docker archive: %v", err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("as a docker archive: %v", err)
	}
	if err := s.Export(t.Context(), []string{"nothing:1"}, &archive); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if len(s.held) != 0 {
		t.Error("layers are still held")
	}
}

// damage changes the first byte of a file, the only one of an image's top layer.
func damage(t *testing.T, s *Store, img *Image, file string) {
	t.Helper()
	path, at := s.layerDir(img.layers[len(img.layers)-1]), int64(erofs.HeaderSize+512) // behind the file's header in the tar
	if s.format == formatDirectory {
		path, at = filepath.Join(path, file), 0
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var first [1]byte
	if _, err := f.ReadAt(first[:], at); err != nil {
		t.Fatal(err)
	}
	first[0]++
	if _, err := f.WriteAt(first[:], at); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, s *Store, repair bool, refs ...string) (bad []LayerCheck, all int) {
	t.Helper()
	err := s.Verify(t.Context(), refs, repair, func(c LayerCheck) {
		all++
		if c.Problem != "" {
			bad = append(bad, c)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return bad, all
}

func TestRootVerify(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")), layerOf(t, f("b", "2")))
	if bad, all := verify(t, s, true); len(bad) != 0 || all != 2 {
		t.Errorf("%d layers, bad %v", all, bad)
	}
	damage(t, s, img, "b")
	var out bytes.Buffer
	if err := s.Export(t.Context(), []string{img.ID}, &out); !errors.Is(err, ErrCorrupt) {
		t.Errorf("export: %v", err)
	}
	if bad, _ := verify(t, s, false); len(bad) != 1 || !bad[0].Damaged || bad[0].Repaired {
		t.Errorf("without repair: %+v", bad)
	}
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	if bad, _ := verify(t, s, true, img.ID); len(bad) != 1 || bad[0].Repaired || !strings.Contains(bad[0].Problem, "c1") {
		t.Errorf("while it is used: %+v", bad)
	}
	if err := s.RemoveSnapshot("c1"); err != nil {
		t.Fatal(err)
	}
	if bad, _ := verify(t, s, true, img.Tags[0]); len(bad) != 1 || !bad[0].Repaired {
		t.Errorf("with repair: %+v", bad)
	}
	if bad, _ := verify(t, s, false); len(bad) != 0 {
		t.Errorf("after it: %+v", bad)
	}
	wantClean(t, s, 2)
	root, cfg := s.root, s.cfg
	s.Close()
	s = openStore(t, root, cfg)
	if bad, all := verify(t, s, false); len(bad) != 0 || all != 2 {
		t.Errorf("after a restart: %+v", bad)
	}
	if err := s.Verify(t.Context(), []string{"nothing:1"}, false, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestRootVerifyUnreachable: what can't be pulled again stays, is reported, and is made anew by the next pull.
func TestRootVerifyUnreachable(t *testing.T) {
	needRoot(t)
	var r refusing
	host := serve(t, r.wrap)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1"))))
	s := openStore(t, t.TempDir(), testConfig(t))
	img := mustPull(t, s, ref(host, "app"))
	damage(t, s, img, "a")
	r.on.Store(true)
	if bad, _ := verify(t, s, true); len(bad) != 1 || bad[0].Repaired || !strings.Contains(bad[0].Problem, host) {
		t.Errorf("%+v", bad)
	}
	if _, err := s.Image(img.ID); err != nil {
		t.Error(err)
	}
	r.on.Store(false)
	mustPull(t, s, ref(host, "app"))
	if bad, _ := verify(t, s, false); len(bad) != 0 {
		t.Errorf("after the next pull: %+v", bad)
	}
	wantClean(t, s, 1)
}
