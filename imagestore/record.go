package imagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/manifest"
)

// record makes an image whose layers are all staged or recorded visible: the commit of a pull. When it fails nothing is visible.
func (in *installer) record(img *manifest.Image, n names) (*Image, error) {
	in.commit.Lock()
	defer in.commit.Unlock()
	c := newChange()
	if err := in.placeLayers(img, c); err != nil {
		return nil, in.displace(c, err)
	}
	in.mu.Lock()
	id := img.ID.String()
	in.nameImage(id, img, n, c)
	unchanged := c.empty()
	in.mu.Unlock()
	if unchanged {
		return in.view.Load().byID[id], nil
	}
	if err := in.db.write(c); err != nil {
		return nil, in.displace(c, err)
	}
	return in.apply(c, id)
}

// displace takes back what placeLayers placed, and returns err.
func (in *installer) displace(c change, err error) error {
	for chain := range c.layers {
		if throwErr := in.throwLayer(chain); throwErr != nil {
			in.log.WithField("op", "displace layer").WithError(throwErr).Warn("image store: a layer stays until the next start")
		}
		in.mu.Lock()
		if u := in.unpacking[chain]; u != nil {
			u.staged, u.dir = false, ""
		}
		in.mu.Unlock()
	}
	return err
}

// placeLayers finishes staged layers, from the base up, and moves them to their places. Those that it moved are in c, whatever it returns.
func (in *installer) placeLayers(img *manifest.Image, c change) error {
	staged, err := in.adoptLayers(img)
	if err != nil || len(staged) == 0 {
		return err
	}
	if err := in.syncStaged(img.Layers); err != nil {
		return err
	}
	for _, l := range staged {
		chain := l.ChainID.String()
		kept, err := in.placeLayer(chain, l.from, l.done.Origin)
		if err != nil {
			return err
		}
		c.layers[chain] = &layerRecord{DiffID: l.DiffID, Blob: l.Blob.Digest, BlobSize: l.Blob.Size, Kept: kept, TarSize: l.done.TarSize,
			Origin: l.done.Origin, Bytes: l.done.Bytes, Inodes: l.done.Inodes, Opaque: l.done.OpaqueRoot, Format: formatOf(l.done)}
	}
	return errors.Join(syncDir(filepath.Join(in.root, "layers")), syncDir(filepath.Join(in.root, "origins")), syncDir(filepath.Join(in.root, "blobs")))
}

// placeLayer moves a layer from staging to where it belongs. kept is what its blob takes.
func (in *installer) placeLayer(chain, from string, origin bool) (kept int64, err error) {
	if err := in.throwLayer(chain); err != nil { // of a removal that couldn't, or damaged
		return 0, err
	}
	if origin {
		if err := os.Rename(originOf(from), in.originFile(chain)); err != nil {
			return 0, err
		}
	}
	kept, err = in.placeBlob(chain, from)
	if err == nil {
		err = os.Rename(filesOf(from), in.layerDir(chain))
	}
	if err != nil {
		return 0, errors.Join(err, in.throwLayer(chain))
	}
	in.discard(from)
	return kept, nil
}

// nameImage puts into c what the names change: this image's record, and those of images that lose a tag to it. Under mu.
func (in *installer) nameImage(id string, img *manifest.Image, n names, c change) {
	record := &imageRecord{Config: img.RawConfig, PulledAt: time.Now().UTC()}
	for _, l := range img.Layers {
		record.Layers = append(record.Layers, l.ChainID.String())
	}
	old := in.records[id]
	if old != nil {
		record.Tags, record.Digests = old.Tags, old.Digests
	}
	record.Tags, record.Digests = union(record.Tags, n.tags), union(record.Digests, n.digests)
	if old == nil || len(c.layers) > 0 || !slices.Equal(old.Tags, record.Tags) || !slices.Equal(old.Digests, record.Digests) {
		c.images[id] = record
	}
	for otherID, other := range in.records {
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
func (in *installer) apply(c change, id string) (*Image, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for chain, record := range c.layers {
		in.layers[chain] = record
		delete(in.unpacking, chain)
		delete(in.suspect, chain)
	}
	for changed, record := range c.images {
		seen, err := newImage(changed, record, in.layers, in.cfg.Pinned)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", changed, err)
		}
		in.records[changed], in.images[changed] = record, seen
	}
	in.publish()
	return in.images[id], nil
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
