package sandbox

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	if err := packDirectory(ctx, dir, f); err != nil {
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

// packDirectory writes the regular files below dir, and its directories, to a tar.
func packDirectory(ctx context.Context, dir string, w io.Writer) error {
	out := tar.NewWriter(w)
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
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		header.Name = path[len(dir)+1:]
		header.Uname, header.Gname = "", ""
		if err := out.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(out, in)
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}
