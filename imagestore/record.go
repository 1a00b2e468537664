package imagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/manifest"
)

// record makes an image whose layers are all staged or recorded visible: the commit of a pull. When it fails nothing is visible.
func (s *Store) record(img *manifest.Image, n names) (*Image, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	c := newChange()
	if err := s.placeLayers(img, c); err != nil {
		return nil, s.displace(c, err)
	}
	s.mu.Lock()
	id := img.ID.String()
	s.nameImage(id, img, n, c)
	unchanged := c.empty()
	s.mu.Unlock()
	if unchanged {
		return s.view.Load().byID[id], nil
	}
	if err := s.db.write(c); err != nil {
		return nil, s.displace(c, err)
	}
	return s.apply(c, id)
}

// displace takes back what placeLayers placed, and returns err.
func (s *Store) displace(c change, err error) error {
	for chain := range c.layers {
		if throwErr := s.throwLayer(chain); throwErr != nil {
			s.log.WithField("op", "displace layer").WithError(throwErr).Warn("image store: a layer stays until the next start")
		}
		s.mu.Lock()
		if u := s.unpacking[chain]; u != nil {
			u.staged, u.dir = false, ""
		}
		s.mu.Unlock()
	}
	return err
}

// placeLayers finishes staged layers, from the base up, and moves them to their places. Those that it moved are in c, whatever it returns.
func (s *Store) placeLayers(img *manifest.Image, c change) error {
	staged, err := s.adoptLayers(img)
	if err != nil || len(staged) == 0 {
		return err
	}
	if err := syncAll(s.root); err != nil {
		return err
	}
	for _, l := range staged {
		chain := l.ChainID.String()
		if err := s.placeLayer(chain, l.from, l.done.Origin); err != nil {
			return err
		}
		c.layers[chain] = &layerRecord{DiffID: l.DiffID, Blob: l.Blob.Digest, BlobSize: l.Blob.Size, TarSize: l.done.TarSize,
			Origin: l.done.Origin, Bytes: l.done.Bytes, Inodes: l.done.Inodes, Opaque: l.done.OpaqueRoot}
	}
	return errors.Join(syncDir(filepath.Join(s.root, "layers")), syncDir(filepath.Join(s.root, "origins")))
}

// placeLayer moves a layer from staging to where it belongs.
func (s *Store) placeLayer(chain, from string, origin bool) error {
	if err := s.throwLayer(chain); err != nil { // of a removal that couldn't, or damaged
		return err
	}
	if origin {
		if err := os.Rename(originOf(from), s.originFile(chain)); err != nil {
			return err
		}
	}
	if err := os.Rename(filesOf(from), s.layerDir(chain)); err != nil {
		return errors.Join(err, s.bin.throw(s.originFile(chain)))
	}
	s.discard(from)
	return nil
}

// stagedLayer is a layer to be placed.
type stagedLayer struct {
	manifest.Layer
	from string
	done layer.Unpacked
}

// adoptLayers completes each staged layer by what those below it say.
func (s *Store) adoptLayers(img *manifest.Image) ([]stagedLayer, error) {
	var staged []stagedLayer
	var lowers []string // of the next layer, the nearest first
	for _, l := range img.Layers {
		chain := l.ChainID.String()
		s.mu.Lock()
		record, u := s.layers[chain], s.unpacking[chain]
		if s.suspect[chain] {
			record = nil
		}
		s.mu.Unlock()
		if record != nil {
			lowers = stack(lowers, s.layerDir(chain), record.Opaque)
			continue
		}
		if u == nil || !u.staged {
			return nil, fmt.Errorf("layer %s: it was lost while others were unpacked", l.ChainID)
		}
		if u.done.OpaqueRoot {
			lowers = nil
		}
		if err := layer.Adopt(filesOf(u.dir), u.done.Implied, lowers); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Blob.Digest, err)
		}
		lowers = stack(lowers, filesOf(u.dir), u.done.OpaqueRoot)
		staged = append(staged, stagedLayer{l, u.dir, u.done})
	}
	return staged, nil
}

// stack puts a layer on top of others, of which an opaque one lets nothing be seen.
func stack(lowers []string, top string, opaque bool) []string {
	if opaque {
		return []string{top}
	}
	return slices.Insert(lowers, 0, top)
}

// nameImage puts into c what the names change: this image's record, and those of images that lose a tag to it. Under mu.
func (s *Store) nameImage(id string, img *manifest.Image, n names, c change) {
	record := &imageRecord{Config: img.RawConfig, PulledAt: time.Now().UTC()}
	for _, l := range img.Layers {
		record.Layers = append(record.Layers, l.ChainID.String())
	}
	old := s.records[id]
	if old != nil {
		record.Tags, record.Digests = old.Tags, old.Digests
	}
	record.Tags, record.Digests = union(record.Tags, n.tags), union(record.Digests, n.digests)
	if old == nil || len(c.layers) > 0 || !slices.Equal(old.Tags, record.Tags) || !slices.Equal(old.Digests, record.Digests) {
		c.images[id] = record
	}
	for otherID, other := range s.records {
		if otherID == id {
			continue
		}
		tags := slices.DeleteFunc(slices.Clone(other.Tags), func(tag string) bool { return slices.Contains(n.tags, tag) })
		if len(tags) < len(other.Tags) {
			changed := *other
			changed.Tags = tags
			c.images[otherID] = &changed
		}
	}
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// apply does in memory what c did on the disk, and returns the image id.
func (s *Store) apply(c change, id string) (*Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for chain, record := range c.layers {
		s.layers[chain] = record
		delete(s.unpacking, chain)
		delete(s.suspect, chain)
	}
	for changed, record := range c.images {
		seen, err := newImage(changed, record, s.layers, s.cfg.Pinned)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", changed, err)
		}
		s.records[changed], s.images[changed] = record, seen
	}
	s.publish()
	return s.images[id], nil
}

// syncAll brings everything on the file system that root is on to the disk: one call for all layers of a pull.
func syncAll(root string) error {
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", root, err)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
