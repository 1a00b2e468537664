package imagestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// janitor gives back what nothing needs.
type janitor struct {
	*catalog
	installer *installer
}

// load compares the records with what is on the disk. Records without their files go, files without a record too: what a crash between
// two steps of a pull or removal leaves is one of these.
func (j *janitor) load(ctx context.Context) error {
	records, layers, err := j.db.read(j.log)
	if err != nil {
		return err
	}
	j.records, j.layers, j.images = records, layers, map[string]*Image{}
	lost := newChange()
	if err := j.dropMissingLayers(lost); err != nil {
		return err
	}
	for id, record := range j.records {
		img, err := newImage(id, record, j.layers, j.cfg.Pinned)
		if err != nil {
			j.log.WithField("image", id).WithError(err).Warn("image store: an image isn't whole and is dropped")
			delete(j.records, id)
			lost.images[id] = nil
			continue
		}
		j.images[id] = img
	}
	if j.snapshots, err = j.readSnapshots(); err != nil {
		return err
	}
	for _, chain := range j.garbage() {
		delete(j.layers, chain)
		lost.layers[chain] = nil
	}
	if err := j.db.write(lost); err != nil {
		return err
	}
	j.publish()
	if err := j.sweep(); err != nil {
		return err
	}
	return ctx.Err()
}

// dropMissingLayers forgets layers that aren't there, or aren't what their records say: that is what a cut leaves while a layer of one format takes the place of
// one of the other.
func (j *janitor) dropMissingLayers(lost change) error {
	for chain, record := range j.layers {
		info, err := os.Lstat(j.layerDir(chain))
		if os.IsNotExist(err) || err == nil && info.IsDir() != (record.Format == formatDirectory) {
			delete(j.layers, chain)
			lost.layers[chain] = nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// sweep throws away all that no record names. Only while nothing else runs.
func (j *janitor) sweep() error {
	known := map[string]bool{}
	for chain := range j.layers {
		known[filepath.Base(j.layerDir(chain))] = true
	}
	for _, dir := range []string{"layers", "origins", "blobs"} {
		if err := j.sweepDir(dir, known); err != nil {
			return err
		}
	}
	known = map[string]bool{}
	for key := range j.snapshots {
		known[key] = true
	}
	if err := j.sweepDir("snapshots", known); err != nil {
		return err
	}
	if err := j.sweepDir("unpacking", nil); err != nil {
		return err
	}
	return j.bin.emptyOld()
}

func (j *janitor) sweepDir(dir string, known map[string]bool) error {
	entries, err := os.ReadDir(filepath.Join(j.root, dir))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if known[entry.Name()] {
			continue
		}
		if err := j.bin.throw(filepath.Join(j.root, dir, entry.Name())); err != nil {
			return fmt.Errorf("sweep %s: %w", dir, err)
		}
	}
	return nil
}

// garbage lists the layers that nothing needs. Under mu.
func (cat *catalog) garbage() []string {
	needed := map[string]bool{}
	for _, img := range cat.images {
		for _, chain := range img.layers {
			needed[chain] = true
		}
	}
	for _, snap := range cat.snapshots {
		for _, chain := range snap.Layers {
			needed[chain] = true
		}
	}
	var garbage []string
	for chain := range cat.layers {
		if !needed[chain] && cat.held[chain] == 0 {
			garbage = append(garbage, chain)
		}
	}
	return garbage
}
