package images

import (
	"fmt"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Named is an image, or an index of images, and the references it is served under.
type Named struct {
	Refs  []string
	Image v1.Image      // nil when Index is set
	Index v1.ImageIndex // nil when Image is set
}

// Path of the one file of the images for platforms that are not this machine's.
const WrongPlatform = "WRONG-PLATFORM"

// Builder builds images. It is not safe for concurrent use.
type Builder struct {
	base   *Tree // busybox's root file system
	web    []byte
	layers map[layerKey]v1.Layer
}

type layerKey struct {
	tree  *Tree
	media types.MediaType
}

// New returns a builder; the first one on a machine builds busybox, which takes
// half a minute.
func New() (*Builder, error) {
	busybox, err := loadBusybox()
	if err != nil {
		return nil, err
	}
	web, err := Program("test/images/programs/web")
	if err != nil {
		return nil, err
	}
	return &Builder{base: busyboxTree(busybox), web: web, layers: map[layerKey]v1.Layer{}}, nil
}

// recipe says what an image is made of.
type recipe struct {
	layers []*Tree
	media  types.MediaType // of the layers; the zero value is an OCI gzip layer
	docker bool            // Docker schema 2 instead of OCI
	config v1.Config
}

var defaultPath = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// image builds a recipe for the platform of this machine.
func (b *Builder) image(r recipe) (v1.Image, error) {
	if r.config.Env == nil {
		r.config.Env = defaultPath
	}
	layers := make([]v1.Layer, len(r.layers))
	for i, t := range r.layers {
		l, err := b.layer(t, r.layerType())
		if err != nil {
			return nil, err
		}
		layers[i] = l
	}
	return assemble(layers, r.config, r.docker, runtime.GOARCH)
}

func (r recipe) layerType() types.MediaType {
	switch {
	case r.media != "":
		return r.media
	case r.docker:
		return types.DockerLayer
	}
	return types.OCILayer
}

// assemble joins layers and a configuration to an image.
func assemble(layers []v1.Layer, config v1.Config, docker bool, arch string) (v1.Image, error) {
	img := empty.Image // which is of Docker's kind
	if !docker {
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	additions := make([]mutate.Addendum, len(layers))
	for i, l := range layers {
		media, err := l.MediaType()
		if err != nil {
			return nil, fmt.Errorf("read layer's media type: %w", err)
		}
		additions[i] = mutate.Addendum{Layer: l, MediaType: media, History: v1.History{Created: v1.Time{Time: epoch}}}
	}
	img, err := mutate.Append(img, additions...)
	if err != nil {
		return nil, fmt.Errorf("append layers: %w", err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read image's configuration: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Config = "linux", arch, v1.Time{Time: epoch}, config
	img, err = mutate.ConfigFile(img, file)
	if err != nil {
		return nil, fmt.Errorf("set image's configuration: %w", err)
	}
	return img, nil
}

// index puts img behind an index whose first entry is for another platform.
func (b *Builder) index(img v1.Image, docker bool) (v1.ImageIndex, error) {
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	media, indexMedia := types.OCILayer, types.OCIImageIndex
	if docker {
		media, indexMedia = types.DockerLayer, types.DockerManifestList
	}
	l, err := b.layer(new(Tree).Text(WrongPlatform, other+"\n"), media)
	if err != nil {
		return nil, err
	}
	wrong, err := assemble([]v1.Layer{l}, v1.Config{Cmd: []string{"/" + WrongPlatform}}, docker, other)
	if err != nil {
		return nil, err
	}
	add := func(img v1.Image, arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}}
	}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, indexMedia), add(wrong, other), add(img, runtime.GOARCH)), nil
}

// layer compresses a tree, once: most images share their first layer.
func (b *Builder) layer(t *Tree, media types.MediaType) (v1.Layer, error) {
	key := layerKey{t, media}
	if l, ok := b.layers[key]; ok {
		return l, nil
	}
	archive, err := t.Tar()
	if err != nil {
		return nil, fmt.Errorf("archive layer: %w", err)
	}
	l, err := newLayer(archive, media)
	if err != nil {
		return nil, err
	}
	b.layers[key] = l
	return l, nil
}

// Single is an image of one layer. It needs nothing that is downloaded.
func Single(t *Tree, config v1.Config) (v1.Image, error) {
	archive, err := t.Tar()
	if err != nil {
		return nil, fmt.Errorf("archive layer: %w", err)
	}
	l, err := newLayer(archive, types.OCILayer)
	if err != nil {
		return nil, err
	}
	return assemble([]v1.Layer{l}, config, false, runtime.GOARCH)
}
