package imagestore

import (
	"context"
	"errors"
	"fmt"
)

// Remove removes the image that ref names, with all its names, and the layers that nothing else needs: snapshots keep theirs. The files are
// deleted after it returned. An image that isn't here is a success. Errors: ErrInvalidReference for the beginning of several ids, and those of the
// disk, after which the image is still there.
func (cat *catalog) Remove(ctx context.Context, ref string) error {
	cat.commit.Lock()
	defer cat.commit.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	img, err := cat.Image(ref)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	if err := cat.remove(img); err != nil {
		return fmt.Errorf("remove image %s: %w", img.ID, err)
	}
	cat.log.WithField("image", img.ID).Info("image removed")
	return nil
}

// remove takes the image out of sight first, so that no snapshot can be made of it while its layers go. Under commit.
func (cat *catalog) remove(img *Image) error {
	cat.mu.Lock()
	record := cat.records[img.ID]
	delete(cat.records, img.ID)
	delete(cat.images, img.ID)
	layers := cat.takeGarbage()
	cat.publish()
	cat.mu.Unlock()

	c := newChange()
	c.images[img.ID] = nil
	err := cat.drop(c, layers)
	if err != nil {
		cat.mu.Lock()
		defer cat.mu.Unlock()
		cat.records[img.ID], cat.images[img.ID] = record, img
		cat.publish()
	}
	return err
}

// collect removes the layers that nothing needs.
func (cat *catalog) collect() error {
	cat.commit.Lock()
	defer cat.commit.Unlock()
	cat.mu.Lock()
	layers := cat.takeGarbage()
	cat.mu.Unlock()
	return cat.drop(newChange(), layers)
}

// takeGarbage takes unneeded layers out of the table, so that a pull that needs one from now on makes it anew. Under mu and commit.
func (cat *catalog) takeGarbage() map[string]*layerRecord {
	taken := map[string]*layerRecord{}
	for _, chain := range cat.garbage() {
		taken[chain] = cat.layers[chain]
		delete(cat.layers, chain)
	}
	return taken
}

// drop writes the change, and throws the layers away with it. When it fails before, they are back in the table. Under commit.
func (cat *catalog) drop(c change, layers map[string]*layerRecord) error {
	for chain := range layers {
		c.layers[chain] = nil
	}
	if err := cat.db.write(c); err != nil {
		cat.mu.Lock()
		defer cat.mu.Unlock()
		for chain, record := range layers {
			cat.layers[chain] = record
		}
		return err
	}
	// No longer an error of the removal: the record is gone, and what stays behind goes with the next start.
	for chain := range layers {
		if err := cat.throwLayer(chain); err != nil {
			cat.log.WithField("op", "delete layer").WithError(err).Warn("image store: a layer stays until the next start")
		}
	}
	return nil
}
