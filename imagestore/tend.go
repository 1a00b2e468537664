package imagestore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keepStaged is how long the finished layers of a pull that failed wait for the next one: kubelet's pause between two is at most five minutes.
	keepStaged = 15 * time.Minute
	// sweepEvery is how often the disk is compared with the records. It finds nothing unless deleting failed.
	sweepEvery = time.Hour
	tendEvery  = time.Minute
)

// tend gives space back that nothing is waiting for any more, until ctx ends.
func (j *janitor) tend(ctx context.Context) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		j.installer.dropStaged(keepStaged)
		if time.Since(swept) < sweepEvery {
			continue
		}
		swept = time.Now()
		if err := j.sweepNow(); err != nil {
			j.log.WithField("op", "sweep").WithError(err).Warn("image store: the disk can't be compared with the records")
		}
	}
}

// mendable tells whether a pull that failed so may succeed soon, so that its finished layers are worth keeping.
func mendable(err error) bool {
	return errors.Is(classify(err), ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// dropStaged throws away finished layers that no pull holds and that have waited longer than that.
func (in *installer) dropStaged(waited time.Duration) {
	in.mu.Lock()
	var dirs []string
	for chain, u := range in.unpacking {
		if in.held[chain] == 0 && time.Since(u.kept) >= waited {
			dirs = append(dirs, u.dir)
			delete(in.unpacking, chain)
		}
	}
	in.mu.Unlock()
	for _, dir := range dirs {
		in.discard(dir)
	}
}

// noRoom tells whether the disk is full, or the quota of this process.
func noRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// sweepNow is sweep while others work. What is looked for must have been there before what it is held against is asked: everything gets its
// place in memory first and on the disk second.
func (j *janitor) sweepNow() error {
	j.commit.Lock() // nobody places layers
	defer j.commit.Unlock()
	layers, err := os.ReadDir(filepath.Join(j.root, "layers"))
	if err != nil {
		return err
	}
	origins, err := os.ReadDir(filepath.Join(j.root, "origins"))
	if err != nil {
		return err
	}
	blobs, err := os.ReadDir(filepath.Join(j.root, "blobs"))
	if err != nil {
		return err
	}
	snapshots, err := os.ReadDir(filepath.Join(j.root, "snapshots"))
	if err != nil {
		return err
	}
	staging, err := os.ReadDir(filepath.Join(j.root, "staging"))
	if err != nil {
		return err
	}
	unpacking, err := os.ReadDir(filepath.Join(j.root, "unpacking"))
	if err != nil {
		return err
	}
	j.mu.Lock() // held to the end: a snapshot may get the key of one that went
	defer j.mu.Unlock()
	known := func(name string) bool { return j.layers["sha256:"+name] != nil }
	err = errors.Join(
		j.sweepEntries("layers", layers, known),
		j.sweepEntries("origins", origins, known),
		j.sweepEntries("blobs", blobs, known),
		j.sweepEntries("snapshots", snapshots, func(name string) bool { return j.snapshots[name] != nil }),
		j.sweepEntries("unpacking", unpacking, func(name string) bool { return j.inMaking("unpacking", name) }),
		j.sweepEntries("staging", staging, func(name string) bool {
			return j.inMaking("staging", name) || strings.HasPrefix(name, binPrefix)
		}))
	return errors.Join(err, j.bin.again())
}

func (j *janitor) sweepEntries(dir string, entries []os.DirEntry, needed func(name string) bool) error {
	for _, entry := range entries {
		path := filepath.Join(j.root, dir, entry.Name())
		if needed(entry.Name()) {
			continue
		}
		if _, err := os.Lstat(path); err != nil {
			continue // went to its place meanwhile, or away
		}
		j.log.WithField("op", "sweep "+path).Warn("image store: something that no record names is deleted")
		if err := j.bin.throw(path); err != nil {
			return err
		}
	}
	return nil
}
