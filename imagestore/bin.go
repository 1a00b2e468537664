package imagestore

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// binPrefix starts the names of directories that are being deleted.
const binPrefix = "gone-"

// bin deletes directories, which takes as long as they are large, behind its callers' backs. What is thrown into it is gone from its
// place at once; what a crash leaves in it goes with the next start.
type bin struct {
	dir     string
	log     logrus.FieldLogger
	workers sync.WaitGroup // deletions; wait waits for them
}

// throw moves path, which is on the same file system, into the bin. A path that isn't there is a success.
func (b *bin) throw(path string) error {
	gone := filepath.Join(b.dir, binPrefix+rand.Text())
	if err := os.Rename(path, gone); err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	b.remove(gone)
	return nil
}

// remove deletes a directory of the bin.
func (b *bin) remove(path string) {
	b.workers.Go(func() {
		if err := os.RemoveAll(path); err != nil {
			b.log.WithField("op", "delete "+path).WithError(err).Warn("image store: something can't be deleted")
		}
	})
}

// emptyOld deletes all that is in the bin now.
func (b *bin) emptyOld() error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return fmt.Errorf("empty the bin: %w", err)
	}
	b.workers.Go(func() {
		for _, entry := range entries {
			path := filepath.Join(b.dir, entry.Name())
			if err := os.RemoveAll(path); err != nil {
				b.log.WithField("op", "delete "+path).WithError(err).Warn("image store: something can't be deleted")
			}
		}
	})
	return nil
}

// again deletes what couldn't be deleted before.
func (b *bin) again() error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return fmt.Errorf("empty the bin: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), binPrefix) {
			b.remove(filepath.Join(b.dir, entry.Name()))
		}
	}
	return nil
}

func (b *bin) wait() { b.workers.Wait() }
