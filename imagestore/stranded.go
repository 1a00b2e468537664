package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/manifest"
)

// errNoTar: a layer isn't here as a file.
var errNoTar = errors.New("its tar is not here")

// freeStranded makes directories of layers that are files where this kernel can't mount those, as after a return to an older one; try says why it
// can't. Each has its tar, so no registry is asked. Containers that want such an image meanwhile are told so, and find it when they try again. It
// ends with ctx.
func (ck *checker) freeStranded(ctx context.Context, try func() error) {
	stranded := ck.ofFiles()
	if len(stranded) == 0 || ck.format == formatErofs {
		return
	}
	why := ck.unfit
	if why == nil { // nobody asked: directories are configured
		why = try()
	}
	if !unmountable(why) {
		return
	}
	began := time.Now()
	ck.log.WithField("op", "unpack layers").WithError(why).Warn("image store: layers that are files can't be mounted here, and become directories")
	for _, img := range stranded {
		if _, err := guarded(ck.log, "unpack image "+img.ID, func() (struct{}, error) { return struct{}{}, ck.free(ctx, img) }); err != nil && ctx.Err() == nil {
			ck.log.WithField("image", img.ID).WithError(err).Error("image store: an image can't be mounted: remove it and pull it again")
		}
	}
	ck.log.WithFields(logrus.Fields{"op": "unpack layers", "took": time.Since(began)}).Info("image store: layers that were files are directories")
}

// unmountable tells whether an error of a probe says that layers that are files will not be mounted by this kernel on this file system.
func unmountable(err error) bool {
	for _, kernels := range []error{unix.ENODEV, unix.ENOTBLK, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL, errors.ErrUnsupported} {
		if errors.Is(err, kernels) {
			return true
		}
	}
	return false
}

// ofFiles are the images with layers that are files.
func (ck *checker) ofFiles() (found []*Image) {
	ck.mu.Lock()
	defer ck.mu.Unlock()
	for _, img := range ck.images {
		for _, chain := range img.layers {
			if ck.layers[chain].Format != formatDirectory {
				found = append(found, img)
				break
			}
		}
	}
	return found
}

// free makes an image's layers anew that are files.
func (ck *checker) free(ctx context.Context, img *Image) error {
	release := ck.keep(img)
	defer release()
	described, err := ck.described(img)
	if errors.Is(err, ErrNotFound) { // removed meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	ck.mu.Lock()
	for _, chain := range img.layers {
		if l := ck.layers[chain]; l != nil && l.Format != formatDirectory {
			ck.suspect[chain] = true
		}
	}
	ck.mu.Unlock()
	_, err = ck.puller.installer.install(ctx, shelf{ck.catalog}, described, names{})
	return err
}

// ownTar is the layer of that chain, which is a file, as a place to get its tar from.
type ownTar struct {
	*catalog
	chain string
	size  int64
}

// Fetch opens the tar, whatever is asked for.
func (o ownTar) Fetch(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return layer.TarOf(o.layerDir(o.chain), o.size)
}

// unpackOwn makes a layer anew of the tar that is in it, as it is a file that is distrusted or can't be mounted. An error isn't the pull's.
func (in *installer) unpackOwn(ctx context.Context, l manifest.Layer, budget *layer.Budget) (string, layer.Unpacked, error) {
	chain := l.ChainID.String()
	in.mu.Lock()
	record := in.layers[chain]
	in.mu.Unlock()
	if record == nil || record.Format != formatErofs || record.Kept > 0 { // with the last, its blob was to be had, and is damaged
		return "", layer.Unpacked{}, errNoTar
	}
	tar := ownTar{in.catalog, chain, record.TarSize}
	if err := tar.check(ctx, l); err != nil { // first, for the budget's sake
		return "", layer.Unpacked{}, err
	}
	l.Blob = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Size: record.TarSize}
	return in.unpackOrDiscard(ctx, tar, l, budget)
}

// check holds the tar against its digest.
func (o ownTar) check(ctx context.Context, l manifest.Layer) error {
	tar, err := o.Fetch(ctx, l.Blob)
	if err != nil {
		return err
	}
	defer tar.Close()
	verifier := l.DiffID.Verifier()
	if _, err := io.Copy(verifier, readUntil{ctx, tar}); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("%w: its tar is not %s", layer.ErrCorrupt, l.DiffID)
	}
	return nil
}
