package imagestore

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// view is what the store holds at one moment, for readers. It is never written to.
type view struct {
	images []*Image // by id
	byID   map[string]*Image
	byName map[string]*Image // tags and digests
}

func newView(images map[string]*Image) *view {
	v := &view{byID: map[string]*Image{}, byName: map[string]*Image{}}
	for id, img := range images {
		v.images = append(v.images, img)
		v.byID[id] = img
		for _, name := range slices.Concat(img.Tags, img.Digests) {
			v.byName[name] = img
		}
	}
	slices.SortFunc(v.images, func(a, b *Image) int { return strings.Compare(a.ID, b.ID) })
	return v
}

// find takes whatever names an image: a reference first, as docker and containerd do, then an id or its unique beginning.
func (v *view) find(ref string) (*Image, error) {
	if img := v.byID[ref]; img != nil {
		return img, nil
	}
	named, err := parseReference(ref)
	if err == nil {
		if img := v.byName[named.String()]; img != nil {
			return img, nil
		}
	}
	hex := strings.TrimPrefix(ref, "sha256:")
	if !isHex(hex) {
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", ErrNotFound, named)
	}
	return v.findID(ref, "sha256:"+hex)
}

func (v *view) findID(ref, prefix string) (*Image, error) {
	first, _ := slices.BinarySearchFunc(v.images, prefix, func(img *Image, id string) int { return strings.Compare(img.ID, id) })
	switch {
	case first == len(v.images) || !strings.HasPrefix(v.images[first].ID, prefix):
		return nil, fmt.Errorf("%w: %s", ErrNotFound, ref)
	case first+1 < len(v.images) && strings.HasPrefix(v.images[first+1].ID, prefix):
		return nil, fmt.Errorf("%w: %q is the beginning of several ids", ErrInvalidReference, ref)
	}
	return v.images[first], nil
}

// newImage makes what readers see of a record.
func newImage(id string, r *imageRecord, layers map[string]*layerRecord, pinned []string) (*Image, error) {
	var config ocispec.Image
	if err := json.Unmarshal(r.Config, &config); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	size := uint64(len(r.Config))
	for _, chain := range r.Layers {
		record := layers[chain]
		if record == nil {
			return nil, fmt.Errorf("layer %s: %w", chain, ErrNotFound)
		}
		size += uint64(record.Bytes)
	}
	return &Image{ID: id, Tags: r.Tags, Digests: r.Digests, Size: size, Config: config, Pinned: isPinned(r, pinned), PulledAt: r.PulledAt,
		layers: r.Layers}, nil
}

func isPinned(r *imageRecord, patterns []string) bool {
	for _, pattern := range patterns {
		for _, name := range slices.Concat(r.Tags, r.Digests) {
			if matched, err := path.Match(pattern, name); err == nil && matched {
				return true
			}
		}
	}
	return false
}
