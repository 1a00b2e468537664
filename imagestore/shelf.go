package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/manifest"
)

// Layers' blobs are kept as they came where the configuration says so (keep_blobs): beside each layer, named and deleted as it. A layer is then
// made anew without its registry, and leaves the node as it came.

// errNotKept: a blob isn't here.
var errNotKept = errors.New("its blob was not kept")

// blobFile is the layer's blob, if it was kept.
func (d *dirs) blobFile(chain string) string { return d.place("blobs", chain) }

// blobOf is what a layer's directory in staging has, where blobs are kept.
func blobOf(dir string) string { return filepath.Join(dir, "blob") }

// keeping is a blob that is written to a file as it is read. What reads it checks its digest.
type keeping struct {
	io.ReadCloser
	file *os.File
}

// keepBlob has what is read of a blob written beside the layer in staging.
func keepBlob(blob io.ReadCloser, dir string) (io.ReadCloser, error) {
	file, err := os.OpenFile(blobOf(dir), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(err, blob.Close())
	}
	return &keeping{blob, file}, nil
}

func (k *keeping) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	if _, writeErr := k.file.Write(p[:n]); writeErr != nil {
		return 0, fmt.Errorf("keep blob: %w", writeErr)
	}
	return n, err
}

func (k *keeping) Close() error { return errors.Join(k.ReadCloser.Close(), k.file.Close()) }

// placeBlob moves a kept blob to where it belongs, and returns what it takes there. 0: there is none.
func (d *dirs) placeBlob(chain, from string) (int64, error) {
	info, err := os.Stat(blobOf(from))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return onDisk(info.Size()), os.Rename(blobOf(from), d.blobFile(chain))
}

// kept finds a blob among those of the recorded layers. path is "" when it isn't there.
func (cat *catalog) kept(blob digest.Digest) (path string, size int64) {
	if blob == "" {
		return "", 0
	}
	cat.mu.Lock()
	defer cat.mu.Unlock()
	for chain, record := range cat.layers {
		if record.Kept > 0 && record.Blob == blob {
			return cat.blobFile(chain), record.BlobSize
		}
	}
	return "", 0
}

// checkKept holds a kept blob against its digest.
func checkKept(ctx context.Context, path string, want digest.Digest) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := want.Algorithm().Hash()
	if _, err := io.Copy(sum, readUntil{ctx, file}); err != nil {
		return err
	}
	if got := digest.NewDigest(want.Algorithm(), sum); got != want {
		return fmt.Errorf("%w: the kept blob is %s, and was %s", layer.ErrCorrupt, got, want)
	}
	return nil
}

// readUntil ends with a context.
type readUntil struct {
	ctx context.Context
	r   io.Reader
}

func (r readUntil) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// shelf is the kept blobs as a place to get layers from.
type shelf struct{ *catalog }

// Fetch opens a blob that was kept; errNotKept.
func (s shelf) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	path, _ := s.kept(desc.Digest)
	if path == "" {
		return nil, fmt.Errorf("%s: %w", desc.Digest, errNotKept)
	}
	return os.Open(path)
}

// described is an image as its records describe it.
func (cat *catalog) described(img *Image) (*manifest.Image, error) {
	cat.mu.Lock()
	defer cat.mu.Unlock()
	record := cat.records[img.ID]
	if record == nil {
		return nil, ErrNotFound
	}
	var blobs []ocispec.Descriptor
	for _, chain := range img.layers {
		l := cat.layers[chain]
		if l == nil {
			return nil, ErrNotFound
		}
		blobs = append(blobs, ocispec.Descriptor{Digest: l.Blob, Size: l.BlobSize})
	}
	return manifest.New(record.Config, blobs)
}

// fromShelf unpacks an image's distrusted layers again from their kept blobs.
func (ck *checker) fromShelf(ctx context.Context, img *Image) error {
	described, err := ck.described(img)
	if err != nil {
		return err
	}
	_, err = ck.puller.installer.install(ctx, shelf{ck.catalog}, described, names{})
	return err
}
