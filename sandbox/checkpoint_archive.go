package sandbox

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeArchive makes a tar of a directory. It appears when it is whole, and on the disk.
func writeArchive(ctx context.Context, dir, location string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(location), "."+filepath.Base(location)+"-")
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write archive: %w", err), f.Close(), os.Remove(f.Name()))
		}
	}()
	out := tar.NewWriter(writerUntil{ctx, f})
	if err := out.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), location); err != nil {
		return err
	}
	_ = f.Close() // synced
	return nil
}

// writerUntil writes until ctx ends.
type writerUntil struct {
	ctx context.Context
	to  io.Writer
}

func (w writerUntil) Write(b []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.to.Write(b)
}
