package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobs is a registry in memory.
type blobs map[digest.Digest][]byte

func (b blobs) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	content, found := b[desc.Digest]
	if !found {
		return nil, errors.New("no such blob")
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

func (b blobs) add(mediaType string, content any) ocispec.Descriptor {
	raw, is := content.([]byte)
	if !is {
		raw, _ = json.Marshal(content)
	}
	d := digest.FromBytes(raw)
	b[d] = raw
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// image adds an image of n layers for a platform.
func (b blobs) image(platform string, n int) ocispec.Descriptor {
	return b.imageOf(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip, platform, n)
}

func (b blobs) imageOf(manifestType, configType, layerType, platform string, n int) ocispec.Descriptor {
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}}
	if platform != "" {
		config.Platform = platforms.MustParse(platform)
	}
	manifest := ocispec.Manifest{MediaType: manifestType, Layers: []ocispec.Descriptor{}}
	manifest.SchemaVersion = 2
	for i := range n {
		id := digest.FromString(fmt.Sprint(platform, i))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, id)
		manifest.Layers = append(manifest.Layers, ocispec.Descriptor{MediaType: layerType, Digest: id, Size: 1})
	}
	manifest.Config = b.add(configType, config)
	return b.add(manifestType, manifest)
}

func (b blobs) index(mediaType string, entries ...ocispec.Descriptor) ocispec.Descriptor {
	index := ocispec.Index{MediaType: mediaType, Manifests: entries}
	index.SchemaVersion = 2
	return b.add(mediaType, index)
}

func on(platform string, desc ocispec.Descriptor) ocispec.Descriptor {
	p := platforms.MustParse(platform)
	desc.Platform = &p
	return desc
}

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

func TestRead(t *testing.T) {
	b := blobs{}
	amd64, arm7, arm6 := b.image("linux/amd64", 2), b.image("linux/arm/v7", 1), b.image("linux/arm/v6", 1)
	v1, v3 := b.image("linux/amd64", 3), b.image("linux/amd64/v3", 4)
	docker := b.imageOf(dockerManifest, dockerConfig, dockerLayer, "linux/amd64", 1)
	silent := b.image("", 5)
	untyped := amd64
	untyped.MediaType = "application/json"
	attestation := b.image("linux/amd64", 6)
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	for name, test := range map[string]struct {
		desc     ocispec.Descriptor
		platform string
		layers   int
	}{
		"manifest":          {amd64, "linux/amd64", 2},
		"docker manifest":   {docker, "linux/amd64", 1},
		"type not said":     {untyped, "linux/amd64", 2},
		"silent config":     {silent, "linux/riscv64", 5},
		"index":             {b.index(ocispec.MediaTypeImageIndex, on("linux/arm/v7", arm7), on("linux/amd64", amd64)), "linux/amd64", 2},
		"docker list":       {b.index(dockerList, on("windows/amd64", arm7), on("linux/amd64", docker)), "linux/amd64", 1},
		"variant, best":     {b.index(ocispec.MediaTypeImageIndex, on("linux/arm/v6", arm6), on("linux/arm/v7", arm7)), "linux/arm/v7", 1},
		"variant, lower":    {b.index(ocispec.MediaTypeImageIndex, on("linux/arm/v6", arm6)), "linux/arm/v8", 1},
		"amd64 v3":          {b.index(ocispec.MediaTypeImageIndex, on("linux/amd64", v1), on("linux/amd64/v3", v3)), "linux/amd64/v3", 4},
		"amd64 without v3":  {b.index(ocispec.MediaTypeImageIndex, on("linux/amd64/v3", v3), on("linux/amd64", v1)), "linux/amd64", 3},
		"first of equals":   {b.index(ocispec.MediaTypeImageIndex, on("linux/amd64", amd64), on("linux/amd64", v1)), "linux/amd64", 2},
		"nothing said":      {b.index(ocispec.MediaTypeImageIndex, arm7, amd64), "linux/amd64", 2},
		"attestation first": {b.index(ocispec.MediaTypeImageIndex, attestation, on("linux/amd64", amd64)), "linux/amd64", 2},
		"index in an index": {b.index(ocispec.MediaTypeImageIndex, b.index(ocispec.MediaTypeImageIndex, on("linux/amd64", amd64))), "linux/amd64", 2},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := Read(t.Context(), b, test.desc, platforms.Only(platforms.MustParse(test.platform)))
			if err != nil {
				t.Fatal(err)
			}
			if len(img.Layers) != test.layers || img.ID != digest.FromBytes(img.RawConfig) {
				t.Errorf("%d layers, id %s", len(img.Layers), img.ID)
			}
			if img.Layers[0].ChainID != img.Layers[0].DiffID {
				t.Error("the base's chain ID isn't its diff-ID")
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	b := blobs{}
	good := b.image("linux/amd64", 1)
	with := func(change func(*ocispec.Descriptor)) ocispec.Descriptor { d := good; change(&d); return d }
	manifest := func(change func(map[string]any)) ocispec.Descriptor {
		var m map[string]any
		json.Unmarshal(b[good.Digest], &m)
		change(m)
		return b.add(ocispec.MediaTypeImageManifest, m)
	}
	config := func(raw string) ocispec.Descriptor {
		return manifest(func(m map[string]any) { m["config"] = b.add(ocispec.MediaTypeImageConfig, []byte(raw)) })
	}
	deep := good
	for range 6 {
		deep = b.index(ocispec.MediaTypeImageIndex, deep)
	}
	sum := strings.Repeat("0", 64)
	for name, test := range map[string]struct {
		desc ocispec.Descriptor
		want error
	}{
		"size too small":    {with(func(d *ocispec.Descriptor) { d.Size-- }), ErrCorrupt},
		"size too large":    {with(func(d *ocispec.Descriptor) { d.Size++ }), ErrCorrupt},
		"size negative":     {with(func(d *ocispec.Descriptor) { d.Size = -1 }), ErrCorrupt},
		"size a gigabyte":   {with(func(d *ocispec.Descriptor) { d.Size = 1 << 30 }), ErrCorrupt},
		"digest bad":        {with(func(d *ocispec.Descriptor) { d.Digest = "sha256:../../x" }), ErrCorrupt},
		"not JSON":          {b.add(ocispec.MediaTypeImageManifest, []byte("<html>")), ErrCorrupt},
		"null":              {b.add(ocispec.MediaTypeImageManifest, []byte("null")), ErrCorrupt},
		"schema 1":          {b.add("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"fsLayers":[]}`)), ErrUnsupported},
		"unknown type":      {b.add("text/plain", []byte(`{}`)), ErrUnsupported},
		"both at once":      {manifest(func(m map[string]any) { m["manifests"] = []any{} }), ErrCorrupt},
		"index as manifest": {b.add(ocispec.MediaTypeImageManifest, []byte(`{"manifests":[]}`)), ErrCorrupt},
		"manifest as index": {with(func(d *ocispec.Descriptor) {
			*d = manifest(func(m map[string]any) { m["mediaType"] = ocispec.MediaTypeImageIndex })
		}), ErrCorrupt},
		"no config":           {manifest(func(m map[string]any) { delete(m, "config") }), ErrCorrupt},
		"an artifact":         {manifest(func(m map[string]any) { m["config"].(map[string]any)["mediaType"] = "application/vnd.helm" }), ErrUnsupported},
		"layer of odd type":   {manifest(func(m map[string]any) { m["layers"].([]any)[0].(map[string]any)["mediaType"] = "image/png" }), ErrUnsupported},
		"layer size":          {manifest(func(m map[string]any) { m["layers"].([]any)[0].(map[string]any)["size"] = -5 }), ErrCorrupt},
		"layer digest":        {manifest(func(m map[string]any) { m["layers"].([]any)[0].(map[string]any)["digest"] = "sha256:x" }), ErrCorrupt},
		"config not JSON":     {config("no"), ErrCorrupt},
		"no diff-IDs":         {config("{}"), ErrCorrupt},
		"too many diff-IDs":   {config(`{"rootfs":{"diff_ids":["sha256:` + sum + `","sha256:` + sum + `"]}}`), ErrCorrupt},
		"diff-ID a path":      {config(`{"rootfs":{"diff_ids":["../../etc"]}}`), ErrCorrupt},
		"another platform":    {b.image("linux/s390x", 1), ErrUnsupported},
		"index of others":     {b.index(ocispec.MediaTypeImageIndex, on("linux/s390x", good), on("windows/amd64", good)), ErrUnsupported},
		"empty index":         {b.index(ocispec.MediaTypeImageIndex), ErrUnsupported},
		"indexes without end": {deep, ErrCorrupt},
		"no layers":           {b.image("linux/amd64", 0), ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := Read(t.Context(), b, test.desc, platforms.Only(platforms.MustParse("linux/amd64")))
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, %v", img, err)
			}
		})
	}
}

// TestReadManySilent: an index doesn't make the node read a thousand manifests.
func TestReadManySilent(t *testing.T) {
	b := blobs{}
	var entries []ocispec.Descriptor
	for i := range 100 {
		entries = append(entries, b.image("linux/s390x", 10+i))
	}
	reads := 0
	counting := countingBlobs{b, &reads}
	_, err := Read(t.Context(), counting, b.index(ocispec.MediaTypeImageIndex, entries...), platforms.Only(platforms.MustParse("linux/amd64")))
	if !errors.Is(err, ErrUnsupported) || reads > 2*maxTries+1 {
		t.Errorf("%d reads, %v", reads, err)
	}
}

type countingBlobs struct {
	blobs
	reads *int
}

func (c countingBlobs) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	*c.reads++
	return c.blobs.Fetch(ctx, desc)
}

func FuzzRead(f *testing.F) {
	b := blobs{}
	good := b.image("linux/amd64", 2)
	var m ocispec.Manifest
	json.Unmarshal(b[good.Digest], &m)
	f.Add(b[good.Digest], b[m.Config.Digest])
	index := b.index(ocispec.MediaTypeImageIndex, on("linux/amd64", good))
	f.Add(b[index.Digest], b[good.Digest])
	f.Add([]byte(`{"manifests":[{}]}`), []byte(`{"rootfs":{"diff_ids":[null]}}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		// Any second document is found under any digest.
		all := anyBlob{first: first, second: second}
		desc := ocispec.Descriptor{Digest: digest.FromBytes(first), Size: int64(len(first))}
		img, err := Read(t.Context(), all, desc, platforms.Only(platforms.MustParse("linux/amd64")))
		if err == nil && (img == nil || len(img.Layers) == 0) {
			t.Error("neither an image nor an error")
		}
		if img, err := New(first, m.Layers); err == nil && len(img.Layers) != len(m.Layers) {
			t.Error("an image with other layers")
		}
	})
}

type anyBlob struct{ first, second []byte }

func (a anyBlob) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.Digest == digest.FromBytes(a.first) {
		return io.NopCloser(bytes.NewReader(a.first)), nil
	}
	return io.NopCloser(bytes.NewReader(a.second)), nil
}
