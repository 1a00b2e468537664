package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	// ErrCorrupt: a document can't be read, or isn't what its descriptor promised.
	ErrCorrupt = errors.New("manifest is corrupt")
	// ErrUnsupported: the image is for another platform, or no image.
	ErrUnsupported = errors.New("image is not supported")
)

// Image is an image described in full, and not yet there.
type Image struct {
	// ID is the digest of RawConfig.
	ID digest.Digest
	// RawConfig is the configuration as it came.
	RawConfig []byte
	Config    ocispec.Image
	// Layers are the base first.
	Layers []Layer
}

// Layer is one layer of an Image.
type Layer struct {
	// Blob is what to fetch. Its digest is empty when nobody promised one (docker archives).
	Blob ocispec.Descriptor
	// DiffID is the digest of the layer's tar.
	DiffID digest.Digest
	// ChainID names the layer together with all below it.
	ChainID digest.Digest
}

// New makes an Image of a configuration and the blobs of its layers, the base first.
func New(config []byte, blobs []ocispec.Descriptor) (*Image, error) {
	img := &Image{ID: digest.FromBytes(config), RawConfig: config}
	if err := json.Unmarshal(config, &img.Config); err != nil {
		return nil, fmt.Errorf("read configuration %s: %w: %w", img.ID, ErrCorrupt, err)
	}
	diffIDs := img.Config.RootFS.DiffIDs
	if len(diffIDs) != len(blobs) {
		return nil, fmt.Errorf("%w: %d layers and %d diff-IDs", ErrCorrupt, len(blobs), len(diffIDs))
	}
	if len(blobs) == 0 {
		return nil, fmt.Errorf("%w: it has no layers", ErrUnsupported)
	}
	for _, id := range diffIDs {
		if err := checkDigest(id); err != nil {
			return nil, fmt.Errorf("diff-ID %q: %w", id, err)
		}
	}
	chain := identity.ChainIDs(append([]digest.Digest(nil), diffIDs...))
	for i, blob := range blobs {
		img.Layers = append(img.Layers, Layer{Blob: blob, DiffID: diffIDs[i], ChainID: chain[i]})
	}
	return img, nil
}

// checkDigest: what becomes the name of a directory must be sha256 and nothing else.
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%w: digest algorithm %s", ErrUnsupported, d.Algorithm())
	}
	return nil
}

func isUnsupported(err error) bool { return errors.Is(err, ErrUnsupported) }

func platformsOf(manifests []ocispec.Descriptor) string {
	var names []string
	for _, m := range manifests {
		if m.Platform != nil && len(names) < 16 {
			names = append(names, platforms.FormatAll(*m.Platform))
		}
	}
	return "[" + strings.Join(names, " ") + "]"
}
