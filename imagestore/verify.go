package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/berth-runtime/berth/imagestore/layer"
)

// LayerCheck is what Verify found of one layer.
type LayerCheck struct {
	// Image is the id of the first of the images that have the layer, Layer the digest of its tar.
	Image, Layer string
	// Problem is what is wrong with it; empty: nothing.
	Problem string
	// Damaged: the layer isn't what it was. Otherwise a problem is that it can't be checked.
	Damaged bool
	// Repaired: it was pulled again.
	Repaired bool
}

// checker holds layers against what they were made of.
type checker struct {
	*catalog
	puller *puller
}

// Verify reads the layers of images again, of all images when refs is empty, and reports each: whether its files make the tar that they
// came from, with the modes and owners that it says, and whether its blob, where that was kept, is what came. repair makes damaged layers anew, of
// their kept blobs, or pulls them again, anonymously or with the node's own credentials; not those that snapshots use. Errors: ErrNotFound and
// ErrInvalidReference for refs, the context's cause; a damaged layer is none.
func (ck *checker) Verify(ctx context.Context, refs []string, repair bool, report func(LayerCheck)) error {
	images := ck.Images()
	if len(refs) > 0 {
		images = nil
		for _, ref := range refs {
			img, err := ck.Image(ref)
			if err != nil {
				return fmt.Errorf("verify image: %w", err)
			}
			images = append(images, img)
		}
	}
	seen := map[string]bool{}
	for _, img := range images {
		if err := ck.verifyImage(ctx, img, repair, seen, report); err != nil {
			return fmt.Errorf("verify image %s: %w", img.ID, err)
		}
	}
	return nil
}

func (ck *checker) verifyImage(ctx context.Context, img *Image, repair bool, seen map[string]bool, report func(LayerCheck)) error {
	release := ck.keep(img)
	defer release()
	var damaged []LayerCheck
	for _, chain := range img.layers {
		if seen[chain] {
			continue
		}
		seen[chain] = true
		check, err := ck.checkLayer(ctx, chain)
		if err != nil {
			return err
		}
		check.Image = img.ID
		if check.Damaged && repair && ck.distrust(chain, &check) {
			damaged = append(damaged, check)
			continue
		}
		report(check)
	}
	if len(damaged) == 0 {
		return nil
	}
	err := ck.fromShelf(ctx, img)
	if err != nil {
		err = ck.pullAgain(ctx, img)
	}
	for _, check := range damaged {
		if check.Repaired = err == nil; err != nil {
			check.Problem += "; pulled again it could not be: " + err.Error()
		}
		report(check)
	}
	return nil
}

// keep keeps an image's layers from being collected until the function that it returns is called.
func (cat *catalog) keep(img *Image) (release func()) {
	cat.mu.Lock()
	defer cat.mu.Unlock()
	for _, chain := range img.layers {
		cat.held[chain]++
	}
	return func() {
		cat.mu.Lock()
		for _, chain := range img.layers {
			if cat.held[chain]--; cat.held[chain] == 0 {
				delete(cat.held, chain)
			}
		}
		orphans := len(cat.garbage()) > 0
		cat.mu.Unlock()
		if orphans {
			if err := cat.collect(); err != nil {
				cat.log.WithField("op", "collect layers").WithError(err).Warn("image store: unused layers stay")
			}
		}
	}
}

// checkLayer returns an error only when ctx ended.
func (ck *checker) checkLayer(ctx context.Context, chain string) (LayerCheck, error) {
	ck.mu.Lock()
	record := ck.layers[chain]
	ck.mu.Unlock()
	if record == nil {
		return LayerCheck{Problem: "it is gone"}, nil
	}
	check := LayerCheck{Layer: record.DiffID.String()}
	if !record.hasTar() {
		check.Problem = "it can't be checked: its tar brought a file twice, or was unpacked by an earlier berth"
		return check, nil
	}
	_, err := guarded(ck.log, "check layer "+check.Layer, func() (struct{}, error) {
		err := ck.checkFiles(ctx, chain, record)
		if err == nil && record.Kept > 0 {
			err = checkKept(ctx, ck.blobFile(chain), record.Blob)
		}
		return struct{}{}, err
	})
	switch {
	case ctx.Err() != nil:
		return check, context.Cause(ctx)
	case errors.Is(err, layer.ErrCorrupt), errors.Is(err, os.ErrNotExist):
		check.Problem, check.Damaged = err.Error(), true
	case err != nil:
		check.Problem = err.Error()
	}
	return check, nil
}

func (ck *checker) checkFiles(ctx context.Context, chain string, record *layerRecord) error {
	if record.Format == formatErofs {
		return layer.CheckPacked(ctx, ck.layerDir(chain), record.TarSize, record.DiffID)
	}
	origin, err := os.Open(ck.originFile(chain))
	if err != nil {
		return err
	}
	defer origin.Close()
	return layer.Check(ctx, ck.layerDir(chain), origin, record.DiffID)
}

// distrust lets the next pull make a layer anew, unless containers run on it.
func (ck *checker) distrust(chain string, check *LayerCheck) bool {
	ck.mu.Lock()
	defer ck.mu.Unlock()
	if ck.images[check.Image] == nil { // to pull it again would be to bring it back
		check.Problem += "; its image was removed meanwhile"
		return false
	}
	for key, snap := range ck.snapshots {
		if slices.Contains(snap.Layers, chain) {
			check.Problem += "; it can't be repaired while snapshot " + key + " uses it"
			return false
		}
	}
	ck.suspect[chain] = true
	return true
}

// pullAgain gets an image's distrusted layers anew, by a name that can't have come to mean another image if there is one.
func (ck *checker) pullAgain(ctx context.Context, img *Image) error {
	names := slices.Concat(img.Digests, img.Tags)
	if len(names) == 0 {
		return errors.New("it has no name")
	}
	var failed error
	for _, name := range names {
		again, err := ck.puller.Pull(ctx, name, nil)
		if err == nil && again.ID != img.ID {
			err = fmt.Errorf("%s is another image now", name)
		}
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
	}
	return failed
}
