package sandbox

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// applyCheckpoint puts what the container had changed into its fresh snapshot.
func (cs *containers) applyCheckpoint(ctx context.Context, c *container) error {
	if c.record.Restore == nil {
		return nil
	}
	layer, err := changes(cs.cfg.restored(c.id))
	if err != nil {
		return &spec.FieldError{Field: "image.image", Value: c.config.Image.Image, Rule: "must be the archive of a checkpoint: " + err.Error()}
	}
	if layer == "" {
		return nil
	}
	return cs.parts.Images.ApplyChanges(ctx, c.id, layer)
}

// changes returns the path of a layer with what the container of an unpacked checkpoint had changed, "" when that is nothing. berth writes the
// layer. CRI-O and Podman write one without whiteouts, or none, and beside it a list of the paths that were removed.
func changes(dir string) (string, error) {
	layer := filepath.Join(dir, metadata.RootFsDiffTar)
	removed, _, err := metadata.ReadContainerCheckpointDeletedFiles(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(layer); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return layer, nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", metadata.DeletedFilesFile, err)
	}
	whole := filepath.Join(dir, ".changes.tar")
	if err := addWhiteouts(whole, layer, removed); err != nil {
		return "", fmt.Errorf("make a layer of the changes: %w", err)
	}
	return whole, nil
}

// addWhiteouts writes a layer to a path: whiteouts of what was removed (OCI image specification, layer.md), and what is in another layer, if that
// is there.
func addWhiteouts(to, layer string, removed []string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	out := tar.NewWriter(f)
	gone := map[string]bool{}
	for _, name := range removed {
		gone[path.Clean("/"+name)] = true
	}
	for name := range gone {
		if name == "/" {
			return errors.New("the root itself can't have been removed")
		}
		if goneWith(name, gone) {
			continue
		}
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Dir(name), ".wh."+path.Base(name))[1:], Mode: 0o600}); err != nil {
			return err
		}
	}
	in, err := os.Open(layer)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(out.Close(), f.Close())
	}
	if err != nil {
		return err
	}
	defer in.Close()
	if err := out.Flush(); err != nil { // not Close, which would write the end
		return err
	}
	if _, err := io.Copy(f, in); err != nil {
		return err
	}
	return f.Close()
}

// goneWith says whether a directory that a path is below is gone too.
func goneWith(name string, gone map[string]bool) bool {
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if gone[dir] {
			return true
		}
	}
	return false
}
