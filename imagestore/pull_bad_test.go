package imagestore

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// badImage is what a registry may serve, whether it can be read or not.
type badImage struct {
	config    []byte
	mediaType string
	layer     []byte // gzip
}

// goodConfig is one for a layer.
func goodConfig(t *testing.T, blob []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	sum := digest.SHA256.Digester()
	if _, err := io.Copy(sum.Hash(), z); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{sum.Digest()}}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// pushBad gives a registry the image as app:1, and returns the digest of its layer.
func pushBad(t *testing.T, host string, img badImage) digest.Digest {
	t.Helper()
	send := func(method, path, mediaType string, body []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+"/v2/app/"+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	blob := func(mediaType string, raw []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		send(http.MethodPost, "blobs/uploads/?digest="+d.Digest.String(), "application/octet-stream", raw)
		return d
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: blob(ocispec.MediaTypeImageConfig, img.config), Layers: []ocispec.Descriptor{blob(img.mediaType, img.layer)}}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	send(http.MethodPut, "manifests/1", m.MediaType, raw)
	return m.Layers[0].Digest
}

// gzipOf compresses.
func gzipOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestRootPullNamesTheCause: whatever is wrong with an image, the error names it, its layer or document, and what is wrong; nothing of it stays,
// and the next pull, of what the name means then, works.
func TestRootPullNamesTheCause(t *testing.T) {
	needRoot(t)
	good := gzipOf(t, tarOf(t, f("a", "1")))
	many := make([]file, 300)
	for i := range many {
		many[i] = f(fmt.Sprint(i), "")
	}
	hard := file{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../../etc/passwd"}, ""}
	for name, c := range map[string]struct {
		layer     []byte
		config    []byte // "": one for the layer
		mediaType string
		kind      error
		says      []string // LAYER is the layer's digest
	}{
		"climbs out":          {layer: gzipOf(t, tarOf(t, f("../../../tmp/x", "1"))), kind: ErrCorrupt, says: []string{"layer LAYER", `"../../../tmp/x"`, "climbs out"}},
		"hard link out":       {layer: gzipOf(t, tarOf(t, hard)), kind: ErrCorrupt, says: []string{"layer LAYER", `"h"`, "hard link"}},
		"no tar":              {layer: gzipOf(t, bytes.Repeat([]byte("no tar "), 1000)), kind: ErrCorrupt, says: []string{"layer LAYER", "read tar"}},
		"cut tar":             {layer: gzipOf(t, tarOf(t, f("a", strings.Repeat("x", 5000)))[:2048]), kind: ErrCorrupt, says: []string{"layer LAYER"}},
		"cut gzip":            {layer: good[:len(good)-9], config: goodConfig(t, good), kind: ErrCorrupt, says: []string{"layer LAYER", "decompress"}},
		"no gzip":             {layer: bytes.Repeat([]byte("no gzip, no tar "), 100), config: goodConfig(t, good), kind: ErrCorrupt, says: []string{"layer LAYER", "says gzip"}},
		"bomb of bytes":       {layer: gzipOf(t, tarOf(t, f("zeros", strings.Repeat("\x00", 30<<20)))), kind: ErrTooLarge, says: []string{"layer LAYER", "size of files"}},
		"bomb of files":       {layer: gzipOf(t, tarOf(t, many...)), kind: ErrTooLarge, says: []string{"layer LAYER", "number of files"}},
		"bomb without a file": {layer: gzipOf(t, append(tarOf(t, f("a", "1")), make([]byte, 30<<20)...)), kind: ErrTooLarge, says: []string{"layer LAYER", "size of the tar"}},
		"config not JSON":     {layer: good, config: []byte("no JSON"), kind: ErrCorrupt, says: []string{"configuration " + digest.FromString("no JSON").String()}},
		"config of others":    {layer: good, config: []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`), kind: ErrCorrupt, says: []string{"diff-ID"}},
		"unknown media type":  {layer: good, mediaType: "application/x-what", kind: ErrUnsupported, says: []string{"LAYER", "application/x-what"}},
		"other content":       {layer: gzipOf(t, tarOf(t, f("a", "2"))), config: goodConfig(t, good), kind: ErrCorrupt, says: []string{"layer LAYER", "diff-ID"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.MaxImageBytes, cfg.MaxImageEntries, cfg.KeepBlobs = 10<<20, 200, true
			s := openStore(t, t.TempDir(), cfg)
			host := serve(t, nil)
			img := badImage{c.config, c.mediaType, c.layer}
			if img.config == nil {
				img.config = goodConfig(t, c.layer)
			}
			if img.mediaType == "" {
				img.mediaType = ocispec.MediaTypeImageLayerGzip
			}
			layer := pushBad(t, host, img)
			_, err := s.Pull(t.Context(), ref(host, "app:1"), nil)
			if !errors.Is(err, c.kind) {
				t.Fatalf("got %v, want %v", err, c.kind)
			}
			for _, part := range append(c.says, ref(host, "app:1")) {
				if part = strings.ReplaceAll(part, "LAYER", layer.String()); !strings.Contains(err.Error(), part) {
					t.Errorf("%v doesn't say %s", err, part)
				}
			}
			wantClean(t, s, 0)
			if left := append(entries(t, s.root+"/blobs"), entries(t, s.root+"/origins")...); len(left) > 0 || len(s.Images()) > 0 {
				t.Errorf("left: %v, listed %d images", left, len(s.Images()))
			}
			pushBad(t, host, badImage{goodConfig(t, good), ocispec.MediaTypeImageLayerGzip, good})
			mustPull(t, s, ref(host, "app:1"))
			wantClean(t, s, 1)
		})
	}
}
