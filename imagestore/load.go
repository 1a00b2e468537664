package imagestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// load compares the records with what is on the disk. Records without their files go, files without a record too: what a crash between
// two steps of a pull or removal leaves is one of these.
func (s *Store) load(ctx context.Context) error {
	records, layers, err := s.db.read(s.log)
	if err != nil {
		return err
	}
	s.records, s.layers, s.images = records, layers, map[string]*Image{}
	lost := newChange()
	if err := s.dropMissingLayers(lost); err != nil {
		return err
	}
	for id, record := range s.records {
		img, err := newImage(id, record, s.layers, s.cfg.Pinned)
		if err != nil {
			s.log.WithField("image", id).WithError(err).Warn("image store: an image isn't whole and is dropped")
			delete(s.records, id)
			lost.images[id] = nil
			continue
		}
		s.images[id] = img
	}
	if s.snapshots, err = s.readSnapshots(); err != nil {
		return err
	}
	for _, chain := range s.garbage() {
		delete(s.layers, chain)
		lost.layers[chain] = nil
	}
	if err := s.db.write(lost); err != nil {
		return err
	}
	s.publish()
	if err := s.sweep(); err != nil {
		return err
	}
	return ctx.Err()
}

func (s *Store) dropMissingLayers(lost change) error {
	for chain := range s.layers {
		_, err := os.Lstat(s.layerDir(chain))
		if os.IsNotExist(err) {
			delete(s.layers, chain)
			lost.layers[chain] = nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// sweep throws away all that no record names. Only while nothing else runs.
func (s *Store) sweep() error {
	known := map[string]bool{}
	for chain := range s.layers {
		known[filepath.Base(s.layerDir(chain))] = true
	}
	for _, dir := range []string{"layers", "origins"} {
		if err := s.sweepDir(dir, known); err != nil {
			return err
		}
	}
	known = map[string]bool{}
	for key := range s.snapshots {
		known[key] = true
	}
	if err := s.sweepDir("snapshots", known); err != nil {
		return err
	}
	if err := s.sweepDir("unpacking", nil); err != nil {
		return err
	}
	return s.bin.emptyOld()
}

func (s *Store) sweepDir(dir string, known map[string]bool) error {
	entries, err := os.ReadDir(filepath.Join(s.root, dir))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if known[entry.Name()] {
			continue
		}
		if err := s.bin.throw(filepath.Join(s.root, dir, entry.Name())); err != nil {
			return fmt.Errorf("sweep %s: %w", dir, err)
		}
	}
	return nil
}

// garbage lists the layers that nothing needs. Under mu.
func (s *Store) garbage() []string {
	needed := map[string]bool{}
	for _, img := range s.images {
		for _, chain := range img.layers {
			needed[chain] = true
		}
	}
	for _, snap := range s.snapshots {
		for _, chain := range snap.Layers {
			needed[chain] = true
		}
	}
	var garbage []string
	for chain := range s.layers {
		if !needed[chain] && s.held[chain] == 0 {
			garbage = append(garbage, chain)
		}
	}
	return garbage
}
