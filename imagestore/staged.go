package imagestore

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/manifest"
)

// filesOf and originOf are what a layer's directory in staging has: its files, as a directory or as one file, and for a directory what else its tar had.
func filesOf(dir string) string  { return filepath.Join(dir, "files") }
func originOf(dir string) string { return filepath.Join(dir, "origin") }

// make makes a layer in a directory in staging, in the store's format if it can be had in that.
func (in *installer) make(ctx context.Context, dir string, open layer.Opener, want layer.Blob, budget *layer.Budget, progress func()) (layer.Unpacked, error) {
	if in.format == formatDirectory {
		return makeDirectory(dir, func(files string, origin io.Writer) (layer.Unpacked, error) {
			return layer.Unpack(ctx, files, origin, open, want, budget, progress)
		})
	}
	done, err := in.packer.Pack(ctx, filesOf(dir), open, want, budget, progress)
	if errors.Is(err, layer.ErrNotPacked) {
		in.log.WithField("op", "pack layer "+want.DiffID.String()).WithError(err).Debug("image store: a layer becomes a directory")
		return unpackPacked(ctx, dir, done.TarSize, want, budget, progress)
	}
	return done, err
}

// makeDirectory makes a layer that is a directory, and has unpack fill it.
func makeDirectory(dir string, unpack func(files string, origin io.Writer) (layer.Unpacked, error)) (layer.Unpacked, error) {
	if err := os.Mkdir(filesOf(dir), 0o700); err != nil {
		return layer.Unpacked{}, err
	}
	origin, err := os.OpenFile(originOf(dir), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return layer.Unpacked{}, err
	}
	defer origin.Close()
	done, err := unpack(filesOf(dir), origin)
	if err == nil {
		done.Bytes, err = addSize(done.Bytes, origin)
	}
	return done, err
}

// unpackPacked makes a directory of a layer in staging that is a file.
func unpackPacked(ctx context.Context, dir string, tarSize int64, want layer.Blob, budget *layer.Budget, progress func()) (layer.Unpacked, error) {
	packed := filepath.Join(dir, "packed")
	if err := os.Rename(filesOf(dir), packed); err != nil {
		return layer.Unpacked{}, err
	}
	done, err := makeDirectory(dir, func(files string, origin io.Writer) (layer.Unpacked, error) {
		return layer.UnpackPacked(ctx, packed, tarSize, files, origin, want, budget, progress)
	})
	return done, errors.Join(err, os.Remove(packed))
}

// addSize adds what a file takes on the disk.
func addSize(bytes int64, f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return bytes + onDisk(info.Size()), nil
}

// onDisk is what so many bytes take, in whole blocks.
func onDisk(size int64) int64 { return (size + 4095) / 4096 * 4096 }

// syncStaged brings layers in staging to the disk. Those that are files are there already, each by itself, and needn't wait for what others write.
func (in *installer) syncStaged(layers []manifest.Layer) error {
	in.mu.Lock()
	synced := !in.cfg.KeepBlobs
	for _, l := range layers {
		if u := in.unpacking[l.ChainID.String()]; u != nil {
			synced = synced && u.done.Packed
		}
	}
	in.mu.Unlock()
	if synced {
		return nil
	}
	return syncAll(in.root)
}
