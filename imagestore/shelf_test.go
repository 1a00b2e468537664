package imagestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
)

// keeper is a store that keeps blobs, with an image of these layers, and its registry.
func keeper(t *testing.T, layers ...v1.Layer) (s *Store, r *refusing, host string, img *Image) {
	t.Helper()
	needRoot(t)
	r = &refusing{}
	host = serve(t, r.wrap)
	push(t, ref(host, "app"), imageOf(t, layers...))
	cfg := testConfig(t)
	cfg.KeepBlobs = true
	s = openStore(t, t.TempDir(), cfg)
	return s, r, host, mustPull(t, s, ref(host, "app"))
}

// wantKept looks at each kept blob, and for as many as there should be.
func wantKept(t *testing.T, s *Store, layers ...v1.Layer) {
	t.Helper()
	var want, got []string
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, d.String())
	}
	for _, name := range entries(t, s.root+"/blobs") {
		raw, err := os.ReadFile(filepath.Join(s.root, "blobs", name))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, digest.FromBytes(raw).String())
	}
	if len(got) != len(want) {
		t.Fatalf("kept %v, want %v", got, want)
	}
	for _, d := range want {
		if !strings.Contains(fmt.Sprint(got), d) {
			t.Errorf("kept %v, want %v", got, want)
		}
	}
}

func usage(t *testing.T, s *Store) Usage {
	t.Helper()
	u, err := s.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestRootKeepBlobs: they are what came, are counted, and go with their layers.
func TestRootKeepBlobs(t *testing.T) {
	one, two := layerOf(t, f("a", "1")), layerOf(t, f("b", "2"))
	s, _, host, img := keeper(t, one, two)
	wantKept(t, s, one, two)
	with := usage(t, s)
	s.Close()
	plain := openStore(t, t.TempDir(), testConfig(t))
	mustPull(t, plain, ref(host, "app"))
	wantKept(t, plain)
	if without := usage(t, plain); with.Inodes != without.Inodes+2 || with.Bytes < without.Bytes+2*4096 {
		t.Errorf("with blobs %+v, without %+v", with, without)
	}
	s = openStore(t, s.root, s.cfg)
	wantKept(t, s, one, two)
	if again := usage(t, s); again.Inodes != with.Inodes {
		t.Errorf("after a restart %+v, before %+v", again, with)
	}
	if err := s.Remove(t.Context(), img.ID); err != nil {
		t.Fatal(err)
	}
	wantKept(t, s)
	wantClean(t, s, 0)
}

// TestRootKeptBlobsAreSwept: what no record names goes, at the start and by the timer.
func TestRootKeptBlobsAreSwept(t *testing.T) {
	one := layerOf(t, f("a", "1"))
	s, _, _, _ := keeper(t, one)
	stray := filepath.Join(s.root, "blobs", strings.Repeat("0", 64))
	for name, sweep := range map[string]func(){
		"by the timer": func() {
			if err := s.janitor.sweepNow(); err != nil {
				t.Fatal(err)
			}
		},
		"at the start": func() {
			s.Close()
			s = openStore(t, s.root, s.cfg)
		},
	} {
		if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		sweep()
		s.bin.wait()
		if _, err := os.Stat(stray); !os.IsNotExist(err) {
			t.Errorf("%s: %v", name, err)
		}
		wantKept(t, s, one)
	}
}

// TestRootRepairWithoutRegistry: layers are made anew of their blobs, and of those that are damaged too, by the registry.
func TestRootRepairWithoutRegistry(t *testing.T) {
	one, two := layerOf(t, f("a", "1")), layerOf(t, f("b", "2"))
	s, r, _, img := keeper(t, one, two)
	r.on.Store(true)
	damage(t, s, img, "b")
	if bad, _ := verify(t, s, true); len(bad) != 1 || !bad[0].Repaired {
		t.Fatalf("the registry is away: %+v", bad)
	}
	if bad, all := verify(t, s, false); len(bad) != 0 || all != 2 {
		t.Errorf("after it: %+v", bad)
	}
	wantKept(t, s, one, two)

	blob := s.blobFile(img.layers[1])
	if err := os.WriteFile(blob, []byte("what is this"), 0o600); err != nil {
		t.Fatal(err)
	}
	if bad, _ := verify(t, s, true); len(bad) != 1 || !bad[0].Damaged || bad[0].Repaired {
		t.Errorf("blob damaged, no registry: %+v", bad)
	}
	r.on.Store(false)
	if bad, _ := verify(t, s, true); len(bad) != 1 || !bad[0].Repaired {
		t.Errorf("blob damaged: %+v", bad)
	}
	wantKept(t, s, one, two)
	if err := os.Remove(s.blobFile(img.layers[0])); err != nil {
		t.Fatal(err)
	}
	if bad, _ := verify(t, s, true); len(bad) != 1 || !bad[0].Repaired {
		t.Errorf("blob gone: %+v", bad)
	}
	wantKept(t, s, one, two)
	wantClean(t, s, 2)
}

// TestRootExportKept: an image leaves in the blobs that it came in, unless they are damaged, and is the same wherever it comes.
func TestRootExportKept(t *testing.T) {
	one := layerOf(t, f("a", "1"))
	s, _, _, img := keeper(t, one)
	blob, err := os.ReadFile(s.blobFile(img.layers[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"whole", "damaged"} {
		damaged := name == "damaged"
		if damaged {
			if err := os.WriteFile(s.blobFile(img.layers[0]), []byte("what is this"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if err := s.Export(t.Context(), []string{img.Tags[0]}, &out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Contains(out.Bytes(), blob) == damaged {
			t.Errorf("%s: the blob is in it: %v", name, !damaged)
		}
		other := newTestStore(t)
		images, err := other.Import(t.Context(), &out, "")
		if err != nil || len(images) != 1 || images[0].ID != img.ID {
			t.Errorf("%s: imported %v, %v", name, images, err)
		}
	}
}

// TestRootPullKeptBlob: a blob that another image brought isn't fetched again, even over other layers.
func TestRootPullKeptBlob(t *testing.T) {
	base, top := layerOf(t, f("base", "1")), layerOf(t, f("top", "2"))
	s, r, host, _ := keeper(t, base, top)
	push(t, ref(host, "other"), imageOf(t, layerOf(t, f("x", "3")), top))
	before := r.blobs.Load()
	img := mustPull(t, s, ref(host, "other"))
	if got := r.blobs.Load() - before; got != 2 { // its configuration and its first layer
		t.Errorf("%d blobs were fetched", got)
	}
	if content := readLayer(t, s, img.layers[1], "top"); content != "2" {
		t.Errorf("%q", content)
	}
}

// lying is a layer of which a manifest says that it is a byte shorter.
type lying struct{ v1.Layer }

func (l lying) Size() (int64, error) {
	size, err := l.Layer.Size()
	return size - 1, err
}

// TestRootKeptBlobOfAnotherSize: a manifest that lies of a layer is refused whether its blob is here or not.
func TestRootKeptBlobOfAnotherSize(t *testing.T) {
	base, top := layerOf(t, f("base", "1")), layerOf(t, f("top", "2"))
	s, _, host, _ := keeper(t, base, top)
	push(t, ref(host, "app2"), imageOf(t, layerOf(t, f("x", "3")), lying{top}))
	if img, err := s.Pull(t.Context(), ref(host, "app2"), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v, %v", img, err)
	}
	wantKept(t, s, base, top)
	wantClean(t, s, 2)
}

// TestRootKeptBlobDamaged: what a damaged blob would unpack to, until it is found out, isn't counted beside what is fetched in its place.
func TestRootKeptBlobDamaged(t *testing.T) {
	var files []file
	for i := range 50 {
		files = append(files, f(fmt.Sprint(i), "x"))
	}
	base, top := layerOf(t, f("base", "1")), layerOf(t, files...)
	s, r, host, img := keeper(t, base, top)
	blob := s.blobFile(img.layers[1])
	raw, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-5] ^= 1 // of gzip's checksum: all files come before it (RFC 1952 section 2.3.1)
	if err := os.WriteFile(blob, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	push(t, ref(host, "other"), imageOf(t, layerOf(t, f("y", "3")), top))
	s.cfg.MaxImageEntries = 55 // the image has 51
	before := r.blobs.Load()
	mustPull(t, s, ref(host, "other"))
	if got := r.blobs.Load() - before; got != 3 {
		t.Errorf("%d blobs were fetched", got)
	}
}
