package manifest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxDocument bounds a manifest, index or configuration. The distribution specification asks registries to take manifests of 4 MiB.
	maxDocument = 8 << 20
	// maxDepth bounds indexes in indexes.
	maxDepth = 4
	// maxTries bounds the manifests read because their index doesn't say what they are for.
	maxTries = 16
)

// Blobs is where documents come from.
type Blobs interface {
	// Fetch opens what the descriptor names. The reader closes it. What it yields is checked, and needn't be.
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Read finds the image that suits the platform best.
func Read(ctx context.Context, blobs Blobs, desc ocispec.Descriptor, platform platforms.MatchComparer) (*Image, error) {
	r := reader{blobs: blobs, platform: platform, tries: maxTries}
	return r.read(ctx, desc, 0)
}

type reader struct {
	blobs    Blobs
	platform platforms.MatchComparer
	tries    int
}

// document holds the fields of manifests and indexes both, to tell them apart.
type document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	FSLayers      json.RawMessage      `json:"fsLayers"`
}

func (r *reader) read(ctx context.Context, desc ocispec.Descriptor, depth int) (*Image, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("read index %s: %w: more than %d indexes deep", desc.Digest, ErrCorrupt, maxDepth)
	}
	raw, err := r.fetch(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("fetch manifest %s: %w", desc.Digest, err)
	}
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w: %w", desc.Digest, ErrCorrupt, err)
	}
	isIndex, err := doc.kind(desc.MediaType)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	if isIndex {
		return r.choose(ctx, desc, doc.Manifests, depth)
	}
	return r.manifest(ctx, desc, &doc)
}

// kind tells an index from a manifest. A document that could be taken for both is refused: two readers would see two images
// (CVE-2021-41190).
func (d *document) kind(promised string) (isIndex bool, err error) {
	if d.Manifests != nil && (d.Layers != nil || d.Config != nil) {
		return false, fmt.Errorf("%w: both an index and a manifest", ErrCorrupt)
	}
	if d.SchemaVersion == 1 || d.FSLayers != nil {
		return false, fmt.Errorf("%w: Docker schema 1", ErrUnsupported)
	}
	for _, mediaType := range []string{d.MediaType, promised} {
		switch {
		case images.IsIndexType(mediaType):
			if d.Config != nil || d.Layers != nil {
				return false, fmt.Errorf("%w: a manifest that says it is an index", ErrCorrupt)
			}
			return true, nil
		case images.IsManifestType(mediaType):
			if d.Manifests != nil {
				return false, fmt.Errorf("%w: an index that says it is a manifest", ErrCorrupt)
			}
			return false, nil
		}
	}
	switch {
	case d.Manifests != nil:
		return true, nil
	case d.Config != nil:
		return false, nil
	}
	return false, fmt.Errorf("%w: media type %q", ErrUnsupported, promised)
}

// choose tries the manifests of an index, those for the best platforms first, those of which the index says nothing last.
func (r *reader) choose(ctx context.Context, index ocispec.Descriptor, manifests []ocispec.Descriptor, depth int) (*Image, error) {
	candidates := r.candidates(manifests)
	for _, candidate := range candidates {
		if r.tries--; r.tries < 0 {
			break
		}
		img, err := r.read(ctx, candidate, depth+1)
		if err == nil {
			return img, nil
		}
		if candidate.Platform != nil || !isUnsupported(err) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("index %s: %w: it has none for this node's platform, only %s", index.Digest, ErrUnsupported, platformsOf(manifests))
}

func (r *reader) candidates(manifests []ocispec.Descriptor) []ocispec.Descriptor {
	var suit, silent []ocispec.Descriptor
	for _, m := range manifests {
		switch {
		case m.Annotations["vnd.docker.reference.type"] == "attestation-manifest":
		case !images.IsManifestType(m.MediaType) && !images.IsIndexType(m.MediaType):
		case m.Platform == nil || m.Platform.OS == "" && m.Platform.Architecture == "":
			m.Platform = nil
			silent = append(silent, m)
		case r.platform.Match(platforms.Normalize(*m.Platform)):
			suit = append(suit, m)
		}
	}
	slices.SortStableFunc(suit, func(a, b ocispec.Descriptor) int {
		switch pa, pb := platforms.Normalize(*a.Platform), platforms.Normalize(*b.Platform); {
		case r.platform.Less(pa, pb):
			return -1
		case r.platform.Less(pb, pa):
			return 1
		}
		return 0
	})
	return append(suit, silent...)
}

func (r *reader) manifest(ctx context.Context, desc ocispec.Descriptor, doc *document) (*Image, error) {
	if doc.Config == nil {
		return nil, fmt.Errorf("read manifest %s: %w: it has no configuration", desc.Digest, ErrCorrupt)
	}
	if !images.IsConfigType(doc.Config.MediaType) {
		return nil, fmt.Errorf("read manifest %s: %w: no image, its configuration is %q", desc.Digest, ErrUnsupported, doc.Config.MediaType)
	}
	for _, l := range doc.Layers {
		if l.Size < 0 || l.Digest.Validate() != nil {
			return nil, fmt.Errorf("read manifest %s: %w: layer %q of %d bytes", desc.Digest, ErrCorrupt, l.Digest, l.Size)
		}
		if !images.IsLayerType(l.MediaType) {
			return nil, fmt.Errorf("read manifest %s: %w: layer %s is of type %q", desc.Digest, ErrUnsupported, l.Digest, l.MediaType)
		}
	}
	config, err := r.fetch(ctx, *doc.Config)
	if err != nil {
		return nil, fmt.Errorf("fetch configuration %s: %w", doc.Config.Digest, err)
	}
	img, err := New(config, doc.Layers)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	if img.ID != doc.Config.Digest { // the manifest may name it by another algorithm
		return nil, fmt.Errorf("read manifest %s: configuration %q: %w", desc.Digest, doc.Config.Digest, ErrUnsupported)
	}
	return img, r.suits(img)
}

// suits: a configuration that doesn't say what it is for is for every node.
func (r *reader) suits(img *Image) error {
	p := img.Config.Platform
	if p.OS == "" || p.Architecture == "" || r.platform.Match(platforms.Normalize(p)) {
		return nil
	}
	return fmt.Errorf("image %s: %w: it is for %s", img.ID, ErrUnsupported, platforms.FormatAll(p))
}

// fetch reads one document and holds it against its descriptor.
func (r *reader) fetch(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%w: digest %q: %w", ErrCorrupt, desc.Digest, err)
	}
	if desc.Size < 0 || desc.Size > maxDocument {
		return nil, fmt.Errorf("%w: a document of %d bytes", ErrCorrupt, desc.Size)
	}
	blob, err := r.blobs.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	raw, err := io.ReadAll(io.LimitReader(blob, desc.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != desc.Size {
		return nil, fmt.Errorf("%w: it isn't the %d bytes promised", ErrCorrupt, desc.Size)
	}
	if got := desc.Digest.Algorithm().FromBytes(raw); got != desc.Digest {
		return nil, fmt.Errorf("%w: its digest is %s", ErrCorrupt, got)
	}
	return raw, nil
}
