package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-runtime/berth/imagestore/manifest"
)

const (
	// placeKey is an annotation of our own, of blobs that have no digest: their file in the archive.
	placeKey = "berth.archive.place"
	// containerdName is where containerd and docker keep the whole name (ocispec.AnnotationRefName is often the tag alone).
	containerdName = "io.containerd.image.name"
)

// Image is one image of an archive, with the names that the archive gives it, not normalised.
type Image struct {
	*manifest.Image
	Names []string
	// Manifest is the digest that the layout lists it by; empty in docker archives.
	Manifest digest.Digest
}

// dockerImage is an element of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Images lists the images that suit the platform. An archive that has none that does is an error.
func (a *Archive) Images(ctx context.Context, platform platforms.MatchComparer) ([]Image, error) {
	var docker []dockerImage
	if a.has("manifest.json") {
		raw, err := a.document("manifest.json")
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &docker); err != nil {
			return nil, fmt.Errorf("read manifest.json: %w: %w", ErrCorrupt, err)
		}
	}
	if a.has("index.json") {
		return a.layoutImages(ctx, platform, docker)
	}
	if len(docker) == 0 {
		return nil, fmt.Errorf("%w: it has neither an index.json (OCI layout) nor a manifest.json (docker save), or was cut off before", ErrNotArchive)
	}
	var all []Image
	for _, d := range docker {
		img, err := a.dockerImage(d)
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	return all, nil
}

func (a *Archive) layoutImages(ctx context.Context, platform platforms.MatchComparer, docker []dockerImage) ([]Image, error) {
	raw, err := a.document("index.json")
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("read index.json: %w: %w", ErrCorrupt, err)
	}
	var all []Image
	var unsupported error
	for _, desc := range index.Manifests {
		img, err := manifest.Read(ctx, a, desc, platform)
		if errors.Is(err, manifest.ErrUnsupported) {
			unsupported = err
			continue
		}
		if err != nil {
			return nil, err
		}
		all = addImage(all, Image{Image: img, Names: names(desc), Manifest: desc.Digest})
	}
	if len(all) == 0 {
		if unsupported == nil {
			unsupported = fmt.Errorf("%w: its index lists no image", ErrCorrupt)
		}
		return nil, unsupported
	}
	a.addDockerNames(all, docker)
	return all, nil
}

// addImage puts the names of one image, listed once for each, together.
func addImage(all []Image, img Image) []Image {
	for i := range all {
		if all[i].ID == img.ID && all[i].Manifest == img.Manifest {
			all[i].Names = append(all[i].Names, img.Names...)
			return all
		}
	}
	return append(all, img)
}

// names: a reference name that is only a tag names nothing by itself.
func names(desc ocispec.Descriptor) []string {
	if name := desc.Annotations[containerdName]; name != "" {
		return []string{name}
	}
	if name := desc.Annotations[ocispec.AnnotationRefName]; strings.ContainsAny(name, "/:") {
		return []string{name}
	}
	return nil
}

// addDockerNames helps layouts without names of their own out with those of the docker archive in the same file.
func (a *Archive) addDockerNames(all []Image, docker []dockerImage) {
	for _, d := range docker {
		raw, err := a.document(clean(d.Config))
		if err != nil {
			continue // the docker half is only asked for names
		}
		id := digest.FromBytes(raw)
		for i := range all {
			if all[i].ID != id {
				continue
			}
			for _, tag := range d.RepoTags {
				if !slices.Contains(all[i].Names, tag) {
					all[i].Names = append(all[i].Names, tag)
				}
			}
		}
	}
}

func (a *Archive) dockerImage(d dockerImage) (Image, error) {
	config, err := a.document(clean(d.Config))
	if err != nil {
		return Image{}, err
	}
	blobs := make([]ocispec.Descriptor, len(d.Layers))
	for i, place := range d.Layers {
		content, err := a.open(clean(place))
		if err != nil {
			return Image{}, err
		}
		blobs[i] = ocispec.Descriptor{Size: content.Size(), Annotations: map[string]string{placeKey: clean(place)}}
	}
	img, err := manifest.New(config, blobs)
	if err != nil {
		return Image{}, err
	}
	return Image{Image: img, Names: slices.Clone(d.RepoTags)}, nil
}

// clean makes a name as in a tar of one as in manifest.json.
func clean(name string) string { return strings.TrimPrefix(name, "./") }

// Fetch opens a blob. It is for concurrent use, and the result for any time before the spool is closed.
func (a *Archive) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	place := desc.Annotations[placeKey]
	if desc.Digest != "" {
		if err := desc.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("%w: digest %q", ErrCorrupt, desc.Digest)
		}
		place = blobName(desc.Digest.String())
	}
	content, err := a.open(place)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(content), nil
}
