package imagestore

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// dirs is where everything is below the root.
type dirs struct {
	root string
	bin  bin

	making sync.Map // directories in staging and unpacking that somebody is at
	mounts mounts   // of layers that are files
}

func (d *dirs) layerDir(chain string) string { return d.place("layers", chain) }

// place is what a layer has in a directory of all layers'.
func (d *dirs) place(in, chain string) string {
	return filepath.Join(d.root, in, strings.TrimPrefix(chain, "sha256:"))
}

// originFile has what of a layer's tar isn't in its files.
func (d *dirs) originFile(chain string) string { return d.place("origins", chain) }

// throwLayer deletes what is on the disk of a layer.
func (d *dirs) throwLayer(chain string) error {
	defer d.mounts.forget(chain) // at last: until the file is gone, somebody could mount it again
	return errors.Join(d.bin.throw(d.layerDir(chain)), d.bin.throw(d.originFile(chain)), d.bin.throw(d.blobFile(chain)))
}

// newStaging makes a directory, in "staging" or "unpacking", that is the caller's until discard or staged.
func (d *dirs) newStaging(in, prefix string) (string, error) {
	dir := filepath.Join(d.root, in, prefix+"-"+rand.Text())
	d.making.Store(dir, true) // first: a sweep that sees the directory must know it
	if err := os.Mkdir(dir, 0o700); err != nil {
		d.staged(dir)
		return "", err
	}
	return dir, nil
}

// staged says that a directory of newStaging went to its place.
func (d *dirs) staged(dir string) {
	d.making.Delete(dir)
}

// discard deletes a directory of newStaging.
func (d *dirs) discard(dir string) {
	d.bin.remove(dir)
	d.staged(dir)
}

// inMaking says whether somebody is at a directory of newStaging.
func (d *dirs) inMaking(in, name string) bool {
	_, made := d.making.Load(filepath.Join(d.root, in, name))
	return made
}
