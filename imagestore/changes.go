package imagestore

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-runtime/berth/imagestore/layer"
)

// WriteChanges writes what a container changed of its image as the tar of a layer (OCI image specification, layer.md). What is written to the container's
// files meanwhile is in it or not, and nothing else is, whatever the writer does. Errors: ErrNotFound.
func (sn *snapshotter) WriteChanges(ctx context.Context, key string, w io.Writer) error {
	_, err := sn.snapshot(key)
	if err == nil {
		err = layer.WriteChanges(ctx, filepath.Join(sn.snapshotDir(key), "fs"), w)
	}
	if err != nil {
		return fmt.Errorf("write changes of snapshot %s: %w", key, err)
	}
	return nil
}

// ApplyChanges puts what WriteChanges wrote, or any layer that isn't compressed, into a snapshot that was just prepared, and not mounted
// yet. Errors: ErrNotFound, ErrCorrupt, ErrTooLarge.
func (sn *snapshotter) ApplyChanges(ctx context.Context, key, path string) error {
	if err := sn.applyChanges(ctx, key, path); err != nil {
		return fmt.Errorf("apply changes to snapshot %s: %w", key, err)
	}
	return nil
}

func (sn *snapshotter) applyChanges(ctx context.Context, key, path string) error {
	snap, err := sn.snapshot(key)
	if err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, in)
	if err != nil {
		return err
	}
	open := func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(in, 0, size)), nil
	}
	want := layer.Blob{MediaType: ocispec.MediaTypeImageLayer, Size: size, DiffID: digest.NewDigest(digest.SHA256, sum)}
	dir := filepath.Join(sn.snapshotDir(key), "fs")
	done, err := layer.Unpack(ctx, dir, nil, open, want, sn.cfg.budget(), nil)
	if err != nil {
		return err
	}
	return sn.adoptDirs(dir, done.Implied, snap)
}
