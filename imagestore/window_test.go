package imagestore

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// zstdOf compresses as who doesn't know the size does, and so names the window.
func zstdOf(t *testing.T, raw []byte, window int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(raw, 100_000) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Flush(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestRootMaxZstdWindow: a layer that needs a larger window than the configuration says is refused, in a registry or in an archive, with an error that says
// what to configure; nothing stays, and it is pulled where it is allowed.
func TestRootMaxZstdWindow(t *testing.T) {
	needRoot(t)
	raw := tarOf(t, f("a", strings.Repeat("some text, and again ", 10_000)))
	config, err := json.Marshal(ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(raw)}}})
	if err != nil {
		t.Fatal(err)
	}
	host := serve(t, nil)
	layer := pushBad(t, host, badImage{config, ocispec.MediaTypeImageLayerZstd, zstdOf(t, raw, 128<<20)})
	cfg := DefaultConfig()
	cfg.KeepBlobs = true
	s := openStore(t, t.TempDir(), cfg)
	_, err = s.Pull(t.Context(), ref(host, "app:1"), nil)
	if !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v, want %v", err, ErrTooLarge)
	}
	for _, part := range []string{ref(host, "app:1"), "layer " + layer.String(), "window of 134217728 bytes", "max_zstd_window is 67108864"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v doesn't say %s", err, part)
		}
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(zstdOf(t, raw, 128<<20)), ""); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "max_zstd_window") {
		t.Errorf("import: got %v", err)
	}
	wantClean(t, s, 0)

	cfg.MaxZstdWindow = 128 << 20
	wide := openStore(t, t.TempDir(), cfg)
	mustPull(t, wide, ref(host, "app:1"))
	wantClean(t, wide, 1)

	pushBad(t, host, badImage{config, ocispec.MediaTypeImageLayerZstd, zstdOf(t, raw, 64<<20)})
	mustPull(t, s, ref(host, "app:1"))
	wantClean(t, s, 1)
}
