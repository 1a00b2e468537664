package imagestore

import (
	"context"
	"errors"
	"fmt"
)

// Remove removes the image that ref names, with all its names, and the layers that nothing else needs: snapshots keep theirs. The files are
// deleted after it returned. An image that isn't here is a success. Errors: ErrInvalidReference for the beginning of several ids, and those of the
// disk, after which the image is still there.
func (s *Store) Remove(ctx context.Context, ref string) error {
	s.commit.Lock()
	defer s.commit.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	img, err := s.Image(ref)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	if err := s.remove(img); err != nil {
		return fmt.Errorf("remove image %s: %w", img.ID, err)
	}
	s.log.WithField("image", img.ID).Info("image removed")
	return nil
}

// remove takes the image out of sight first, so that no snapshot can be made of it while its layers go. Under commit.
func (s *Store) remove(img *Image) error {
	s.mu.Lock()
	record := s.records[img.ID]
	delete(s.records, img.ID)
	delete(s.images, img.ID)
	layers := s.takeGarbage()
	s.publish()
	s.mu.Unlock()

	c := newChange()
	c.images[img.ID] = nil
	err := s.drop(c, layers)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.records[img.ID], s.images[img.ID] = record, img
		s.publish()
	}
	return err
}

// collect removes the layers that nothing needs.
func (s *Store) collect() error {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.mu.Lock()
	layers := s.takeGarbage()
	s.mu.Unlock()
	return s.drop(newChange(), layers)
}

// takeGarbage takes unneeded layers out of the table, so that a pull that needs one from now on makes it anew. Under mu and commit.
func (s *Store) takeGarbage() map[string]*layerRecord {
	taken := map[string]*layerRecord{}
	for _, chain := range s.garbage() {
		taken[chain] = s.layers[chain]
		delete(s.layers, chain)
	}
	return taken
}

// drop writes the change, and throws the layers away with it. When it fails before, they are back in the table. Under commit.
func (s *Store) drop(c change, layers map[string]*layerRecord) error {
	for chain := range layers {
		c.layers[chain] = nil
	}
	if err := s.db.write(c); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for chain, record := range layers {
			s.layers[chain] = record
		}
		return err
	}
	// No longer an error of the removal: the record is gone, and what stays behind goes with the next start.
	for chain := range layers {
		if err := s.throwLayer(chain); err != nil {
			s.log.WithField("op", "delete layer").WithError(err).Warn("image store: a layer stays until the next start")
		}
	}
	return nil
}
