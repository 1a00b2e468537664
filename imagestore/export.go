package imagestore

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-runtime/berth/imagestore/layer"
)

// Export writes images as an archive that is an OCI layout and a docker archive both, with the names that refs are, or all of an image's where a
// ref is an id. Layers are not compressed, but for those whose blobs were kept. An image has the same id when it is imported, anywhere; its manifest's digest is another one than in the registry
// that it came from. Errors: ErrNotFound, ErrInvalidReference; ErrCorrupt for a layer that is damaged; ErrUnsupported for one
// whose tar can't be made again. What was written before an error is worth nothing.
func (cat *catalog) Export(ctx context.Context, refs []string, w io.Writer) error {
	e := exporter{catalog: cat, ctx: ctx, tar: tar.NewWriter(w), written: map[digest.Digest]bool{}}
	for _, ref := range refs {
		img, err := cat.Image(ref)
		if err != nil {
			return fmt.Errorf("export image: %w", err)
		}
		release := cat.keep(img)
		defer release()
		if err := e.add(img, exportNames(img, ref)); err != nil {
			return fmt.Errorf("export image %s: %w", ref, classify(err))
		}
	}
	if err := e.finish(); err != nil {
		return fmt.Errorf("export images: %w", err)
	}
	return nil
}

// exportNames: of a name only itself, unless it names a digest, which is nothing that an archive's images can be called by.
func exportNames(img *Image, ref string) []string {
	named, err := parseReference(ref)
	if err == nil && slices.Contains(img.Tags, named.String()) {
		return []string{named.String()}
	}
	return img.Tags
}

type exporter struct {
	catalog *catalog
	ctx     context.Context
	tar     *tar.Writer
	written map[digest.Digest]bool
	index   ocispec.Index
	docker  []dockerManifest
}

// dockerManifest is an element of a docker archive's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blobPath(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

// add writes an image's blobs.
func (e *exporter) add(img *Image, names []string) error {
	e.catalog.mu.Lock()
	record := e.catalog.records[img.ID]
	e.catalog.mu.Unlock()
	if record == nil {
		return ErrNotFound
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	docker := dockerManifest{RepoTags: names}
	var err error
	if m.Config, err = e.blob(ocispec.MediaTypeImageConfig, record.Config); err != nil {
		return err
	}
	docker.Config = blobPath(m.Config.Digest)
	for _, chain := range img.layers {
		desc, err := e.layer(chain)
		if err != nil {
			return fmt.Errorf("layer %s: %w", cmp.Or(desc.Digest.String(), chain), err)
		}
		m.Layers = append(m.Layers, desc)
		docker.Layers = append(docker.Layers, blobPath(desc.Digest))
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	desc, err := e.blob(m.MediaType, raw)
	if err != nil {
		return err
	}
	e.docker = append(e.docker, docker)
	e.list(desc, names)
	return nil
}

// list enters an image in the index, once for each name.
func (e *exporter) list(desc ocispec.Descriptor, names []string) {
	if len(names) == 0 {
		e.index.Manifests = append(e.index.Manifests, desc)
	}
	for _, name := range names {
		named := desc
		named.Annotations = map[string]string{"io.containerd.image.name": name, ocispec.AnnotationRefName: name}
		e.index.Manifests = append(e.index.Manifests, named)
	}
}

func (e *exporter) blob(mediaType string, raw []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if e.written[desc.Digest] {
		return desc, nil
	}
	e.written[desc.Digest] = true
	return desc, e.file(blobPath(desc.Digest), raw)
}

func (e *exporter) file(name string, raw []byte) error {
	if err := e.header(name, int64(len(raw))); err != nil {
		return err
	}
	_, err := e.tar.Write(raw)
	return err
}

func (e *exporter) header(name string, size int64) error {
	return e.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)})
}

// layer writes one, and holds it against its digest while it does.
func (e *exporter) layer(chain string) (ocispec.Descriptor, error) {
	e.catalog.mu.Lock()
	record := e.catalog.layers[chain]
	e.catalog.mu.Unlock()
	if record == nil {
		return ocispec.Descriptor{}, ErrNotFound
	}
	if record.Kept > 0 && checkKept(e.ctx, e.catalog.blobFile(chain), record.Blob) == nil {
		return e.keptLayer(e.catalog.blobFile(chain), record)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: record.DiffID, Size: record.TarSize}
	if !record.hasTar() {
		return desc, fmt.Errorf("%w: its tar brought a file twice, or was unpacked by an earlier berth: pull it again", ErrUnsupported)
	}
	if e.written[desc.Digest] {
		return desc, nil
	}
	e.written[desc.Digest] = true
	if err := e.header(blobPath(desc.Digest), desc.Size); err != nil {
		return desc, err
	}
	sum := digest.SHA256.Digester()
	if err := e.catalog.writeTar(e.ctx, chain, record, io.MultiWriter(sum.Hash(), e.tar)); err != nil {
		return desc, err
	}
	if sum.Digest() != desc.Digest {
		return desc, fmt.Errorf("%w: its files make %s", ErrCorrupt, sum.Digest())
	}
	return desc, nil
}

// hasTar tells whether the layer's tar can be had.
func (r *layerRecord) hasTar() bool { return r.Origin || r.Format == formatErofs }

// writeTar writes the tar that a layer was made of. It isn't checked.
func (cat *catalog) writeTar(ctx context.Context, chain string, record *layerRecord, w io.Writer) error {
	if record.Format == formatErofs {
		r, err := layer.TarOf(cat.layerDir(chain), record.TarSize)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, readUntil{ctx, r})
		return err
	}
	origin, err := os.Open(cat.originFile(chain))
	if err != nil {
		return err
	}
	defer origin.Close()
	return layer.Assemble(ctx, cat.layerDir(chain), origin, w)
}

// keptLayer writes one as it came.
func (e *exporter) keptLayer(path string, record *layerRecord) (ocispec.Descriptor, error) {
	file, err := os.Open(path)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer file.Close()
	mediaType, err := layer.MediaType(file)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: record.Blob, Size: record.BlobSize}
	if e.written[desc.Digest] {
		return desc, nil
	}
	e.written[desc.Digest] = true
	if err := e.header(blobPath(desc.Digest), desc.Size); err != nil {
		return desc, err
	}
	_, err = io.Copy(e.tar, readUntil{e.ctx, file})
	return desc, err
}

func (e *exporter) finish() error {
	e.index.SchemaVersion, e.index.MediaType = 2, ocispec.MediaTypeImageIndex
	index, err := json.Marshal(e.index)
	if err != nil {
		return err
	}
	docker, err := json.Marshal(e.docker)
	if err != nil {
		return err
	}
	return errors.Join(
		e.file(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`)),
		e.file(ocispec.ImageIndexFile, index),
		e.file("manifest.json", docker),
		e.tar.Close())
}
