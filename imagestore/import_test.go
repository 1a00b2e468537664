package imagestore

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
)

func dockerArchive(t testing.TB, images map[string]v1.Image) []byte {
	t.Helper()
	byRef := map[name.Reference]v1.Image{}
	for ref, img := range images {
		parsed, err := name.ParseReference(ref)
		if err != nil {
			t.Fatal(err)
		}
		byRef[parsed] = img
	}
	var buf bytes.Buffer
	if err := tarball.MultiRefWrite(byRef, &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// layoutArchive is an OCI layout in a tar, of images with those annotations.
func layoutArchive(t testing.TB, images []v1.Image, annotations []map[string]string) []byte {
	t.Helper()
	at, err := layout.Write(t.TempDir(), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for i, img := range images {
		if err := at.AppendImage(img, layout.WithAnnotations(annotations[i])); err != nil {
			t.Fatal(err)
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(string(at))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestRootImport(t *testing.T) {
	one, two := imageOf(t, layerOf(t, f("a", "1")), layerOf(t, f("b", "1"))), imageOf(t, layerOf(t, f("a", "2")))
	digest, err := one.Digest()
	if err != nil {
		t.Fatal(err)
	}
	docker := dockerArchive(t, map[string]v1.Image{"app:1": one, "example.com/other:2": two})
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(docker); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	single := layoutArchive(t, []v1.Image{one}, []map[string]string{{"org.opencontainers.image.ref.name": "latest"}})
	for test, given := range map[string]struct {
		raw     []byte
		name    string
		tags    []string // of image one
		digests []string
		images  int
	}{
		"docker": {docker, "", []string{"docker.io/library/app:1"}, nil, 2},
		"gzip":   {packed.Bytes(), "", []string{"docker.io/library/app:1"}, nil, 2},
		"layout, containerd's name": {layoutArchive(t, []v1.Image{one}, []map[string]string{{"io.containerd.image.name": "docker.io/library/app:3",
			"org.opencontainers.image.ref.name": "3"}}), "", []string{"docker.io/library/app:3"}, []string{"docker.io/library/app@" + digest.String()}, 1},
		"layout, whole name": {layoutArchive(t, []v1.Image{one}, []map[string]string{{"org.opencontainers.image.ref.name": "example.com/app:4"}}), "",
			[]string{"example.com/app:4"}, []string{"example.com/app@" + digest.String()}, 1},
		"layout, two names": {layoutArchive(t, []v1.Image{one, one}, []map[string]string{{"io.containerd.image.name": "a:1"}, {"io.containerd.image.name": "a:2"}}), "",
			[]string{"docker.io/library/a:1", "docker.io/library/a:2"}, []string{"docker.io/library/a@" + digest.String()}, 1},
		"layout, only a tag": {single, "", nil, nil, 1},
		"layout, name given": {single, "mine", []string{"docker.io/library/mine:latest"}, []string{"docker.io/library/mine@" + digest.String()}, 1},
		"docker, name given": {dockerArchive(t, map[string]v1.Image{"app:1": one}), "mine:2", []string{"docker.io/library/mine:2"}, nil, 1},
		"layout of two at once": {layoutArchive(t, []v1.Image{one, two}, []map[string]string{{"io.containerd.image.name": "a:1"}, {"io.containerd.image.name": "b:1"}}), "",
			[]string{"docker.io/library/a:1"}, []string{"docker.io/library/a@" + digest.String()}, 2},
	} {
		t.Run(test, func(t *testing.T) {
			s := newTestStore(t)
			// A pipe, as of `docker save | berth images import`.
			images, err := s.Import(t.Context(), io.MultiReader(bytes.NewReader(given.raw)), given.name)
			if err != nil {
				t.Fatal(err)
			}
			if len(images) != given.images || len(s.Images()) != given.images {
				t.Fatalf("%d images, %d listed", len(images), len(s.Images()))
			}
			img, err := s.Image(configName(t, one))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(img.Tags, given.tags) || !slices.Equal(img.Digests, given.digests) {
				t.Errorf("tags %v, digests %v", img.Tags, img.Digests)
			}
			mount, err := s.MountImage(img.ID)
			if err != nil {
				t.Fatal(err)
			}
			defer mount.Close()
			if got := readMounted(t, mount, "a") + readMounted(t, mount, "b"); got != "11" {
				t.Errorf("read %q", got)
			}
			wantClean(t, s, given.images+1)
		})
	}
}

func TestRootImportErrors(t *testing.T) {
	one, two := imageOf(t, layerOf(t, f("a", "1"))), imageOf(t, layerOf(t, f("a", "2")))
	both := dockerArchive(t, map[string]v1.Image{"app:1": one, "app:2": two})
	foreign := configured(t, one, func(c *v1.ConfigFile) { c.Architecture = "s390x" })
	for test, given := range map[string]struct {
		raw  []byte
		name string
		want error
	}{
		"empty":                {nil, "", ErrNotArchive},
		"no tar":               {[]byte(strings.Repeat("no tar", 1000)), "", ErrNotArchive},
		"a few words":          {[]byte("no tar"), "", ErrNotArchive},
		"cut":                  {both[:len(both)/2], "", ErrNotArchive},
		"another tar":          {tarOf(t, f("a", "1")), "", ErrNotArchive},
		"a name for two":       {both, "mine", ErrInvalidReference},
		"bad name":             {dockerArchive(t, map[string]v1.Image{"app:1": one}), "BAD//name", ErrInvalidReference},
		"foreign":              {layoutArchive(t, []v1.Image{foreign}, []map[string]string{nil}), "", ErrUnsupported},
		"layer missing":        {tarOf(t, f("manifest.json", `[{"Config":"c.json","Layers":["l.tar"]}]`), f("c.json", "{}")), "", ErrCorrupt},
		"no layers":            {tarOf(t, f("manifest.json", `[{"Config":"c.json"}]`), f("c.json", "{}")), "", ErrUnsupported},
		"diff-ID lies":         {tarOf(t, f("manifest.json", `[{"Config":"c.json","Layers":["l.tar"]}]`), f("l.tar", ""), f("c.json", `{"rootfs":{"diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`)), "", ErrCorrupt},
		"manifest is no JSON":  {tarOf(t, f("manifest.json", `[{`)), "", ErrCorrupt},
		"index is no JSON":     {tarOf(t, f("index.json", `[{`)), "", ErrCorrupt},
		"links in a circle":    {tarOf(t, f("manifest.json", `[{"Config":"a","Layers":[]}]`), file{tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b"}, ""}, file{tar.Header{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "a"}, ""}), "", ErrCorrupt},
		"index of nothing":     {tarOf(t, f("index.json", `{}`)), "", ErrCorrupt},
		"blob out of the tree": {tarOf(t, f("index.json", `{"manifests":[{"digest":"sha256:../../etc/passwd","size":1}]}`)), "", ErrCorrupt},
	} {
		t.Run(test, func(t *testing.T) {
			s := newTestStore(t)
			if _, err := s.Import(t.Context(), bytes.NewReader(given.raw), given.name); !errors.Is(err, given.want) {
				t.Errorf("got %v", err)
			}
			if len(s.Images()) != 0 {
				t.Error("an image is listed")
			}
			wantClean(t, s, 0)
		})
	}
}

func TestRootImportTooLarge(t *testing.T) {
	needRoot(t)
	cfg := testConfig(t)
	cfg.MaxImageBytes = 1000
	s := openStore(t, t.TempDir(), cfg)
	raw := dockerArchive(t, map[string]v1.Image{"app:1": imageOf(t, layerOf(t, f("a", strings.Repeat("x", 5000))))})
	if _, err := s.Import(t.Context(), bytes.NewReader(raw), ""); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	wantClean(t, s, 0)
}

// TestRootImportName: a name that can't be given is refused before the archive is read.
func TestRootImportName(t *testing.T) {
	s := newTestStore(t)
	for _, name := range []string{"BAD NAME", "app@sha256:" + strings.Repeat("1", 64), "app:1@sha256:" + strings.Repeat("1", 64)} {
		_, err := s.Import(t.Context(), iotest.ErrReader(errors.New("was read")), name)
		if !errors.Is(err, ErrInvalidReference) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
