package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func pack(t testing.TB, headers []tar.Header, contents ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i, hdr := range headers {
		hdr.Size = int64(len(contents[i]))
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, contents[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func spool(t testing.TB) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func amd64() platforms.MatchComparer { return platforms.Only(platforms.MustParse("linux/amd64")) }

// TestOldDockerArchive: layers that images share were symlinks once, and names start with "./" in some tools' archives.
func TestOldDockerArchive(t *testing.T) {
	layer := "a layer"
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + digest.FromString(layer).String() + `"]}}`
	raw := pack(t, []tar.Header{{Name: "aaa/layer.tar"}, {Name: "bbb/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../aaa/layer.tar"},
		{Name: "./config.json"}, {Name: "manifest.json"}},
		layer, "", config, `[{"Config":"config.json","RepoTags":["app:1"],"Layers":["./bbb/layer.tar"]}]`)
	a, err := Read(t.Context(), bytes.NewReader(raw), spool(t), 1<<20, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	images, err := a.Images(t.Context(), amd64())
	if err != nil || len(images) != 1 || images[0].Names[0] != "app:1" || images[0].Manifest != "" {
		t.Fatalf("%+v, %v", images, err)
	}
	blob, err := a.Fetch(t.Context(), images[0].Layers[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if got, err := io.ReadAll(blob); err != nil || string(got) != layer {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestFetchOutside(t *testing.T) {
	raw := pack(t, []tar.Header{{Name: "a"}}, "x")
	a, err := Read(t.Context(), bytes.NewReader(raw), spool(t), 1<<20, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range []ocispec.Descriptor{{}, {Digest: "sha256:../../../etc/passwd"}, {Digest: digest.FromString("none")},
		{Annotations: map[string]string{placeKey: "/etc/passwd"}}} {
		if _, err := a.Fetch(t.Context(), desc); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%+v: %v", desc, err)
		}
	}
}

func TestReadLimits(t *testing.T) {
	raw := pack(t, []tar.Header{{Name: "a"}, {Name: "b"}}, strings.Repeat("x", 600), strings.Repeat("x", 600))
	if _, err := Read(t.Context(), bytes.NewReader(raw), spool(t), 1000, 8<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, bytes.NewReader(raw), spool(t), 1<<20, 8<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzArchive(f *testing.F) {
	layer := digest.FromString("").String()
	f.Add(pack(f, []tar.Header{{Name: "manifest.json"}, {Name: "c"}, {Name: "l"}}, `[{"Config":"c","Layers":["l"]}]`, `{"rootfs":{"diff_ids":["`+layer+`"]}}`, ""))
	f.Add(pack(f, []tar.Header{{Name: "index.json"}, {Name: "a", Typeflag: tar.TypeLink, Linkname: "a"}}, `{"manifests":[{}]}`, ""))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := Read(t.Context(), bytes.NewReader(raw), spool(t), 1<<20, 8<<20)
		if err != nil {
			return
		}
		images, err := a.Images(t.Context(), amd64())
		if err == nil && len(images) == 0 {
			t.Error("neither an image nor an error")
		}
		for _, img := range images {
			for _, l := range img.Layers {
				if blob, err := a.Fetch(t.Context(), l.Blob); err == nil {
					io.Copy(io.Discard, blob)
					blob.Close()
				}
			}
		}
	})
}
