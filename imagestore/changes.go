package imagestore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/containerd/v2/pkg/archive"
	changes "github.com/containerd/continuity/fs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/layer"
)

// WriteChanges writes what a container changed of its image as the tar of a layer (OCI image specification, layer.md). Nobody should
// write to the container's files meanwhile. Errors: ErrNotFound.
func (sn *snapshotter) WriteChanges(ctx context.Context, key string, w io.Writer) error {
	if _, err := sn.snapshot(key); err != nil {
		return fmt.Errorf("write changes of snapshot %s: %w", key, err)
	}
	dir := filepath.Join(sn.snapshotDir(key), "fs")
	out := archive.NewChangeWriter(w, dir)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return writeChange(out, path, "/"+path[len(dir)+1:], info)
	})
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("write changes of snapshot %s: %w", key, err)
	}
	return nil
}

// writeChange writes one file of an overlay's upper directory (the kernel's Documentation/filesystems/overlayfs.rst).
func writeChange(out *archive.ChangeWriter, path, name string, info fs.FileInfo) error {
	st, _ := info.Sys().(*syscall.Stat_t)
	if st != nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		return out.HandleChange(changes.ChangeKindDelete, name, nil, nil)
	}
	if err := out.HandleChange(changes.ChangeKindAdd, name, info, nil); err != nil || !info.IsDir() {
		return err
	}
	opaque := make([]byte, 1)
	if n, err := unix.Lgetxattr(path, "trusted.overlay.opaque", opaque); err != nil || n != 1 || opaque[0] != 'y' {
		return nil // without the attribute what is below shows
	}
	return out.HandleChange(changes.ChangeKindDelete, name+"/.wh..opq", nil, nil) // the writer puts .wh. before it
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
	return layer.Adopt(dir, done.Implied, sn.lowers(snap.Layers))
}
