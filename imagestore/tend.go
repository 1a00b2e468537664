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
func (s *Store) tend(ctx context.Context) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.dropStaged(keepStaged)
		if time.Since(swept) < sweepEvery {
			continue
		}
		swept = time.Now()
		if err := s.sweepNow(); err != nil {
			s.log.WithField("op", "sweep").WithError(err).Warn("image store: the disk can't be compared with the records")
		}
	}
}

// mendable tells whether a pull that failed so may succeed soon, so that its finished layers are worth keeping.
func mendable(err error) bool {
	return errors.Is(classify(err), ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// dropStaged throws away finished layers that no pull holds and that have waited longer than that.
func (s *Store) dropStaged(waited time.Duration) {
	s.mu.Lock()
	var dirs []string
	for chain, u := range s.unpacking {
		if s.held[chain] == 0 && time.Since(u.kept) >= waited {
			dirs = append(dirs, u.dir)
			delete(s.unpacking, chain)
		}
	}
	s.mu.Unlock()
	for _, dir := range dirs {
		s.discard(dir)
	}
}

// noRoom tells whether the disk is full, or the quota of this process.
func noRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// sweepNow is sweep while others work. What is looked for must have been there before what it is held against is asked: everything gets its
// place in memory first and on the disk second.
func (s *Store) sweepNow() error {
	s.commit.Lock() // nobody places layers
	defer s.commit.Unlock()
	layers, err := os.ReadDir(filepath.Join(s.root, "layers"))
	if err != nil {
		return err
	}
	origins, err := os.ReadDir(filepath.Join(s.root, "origins"))
	if err != nil {
		return err
	}
	snapshots, err := os.ReadDir(filepath.Join(s.root, "snapshots"))
	if err != nil {
		return err
	}
	staging, err := os.ReadDir(filepath.Join(s.root, "staging"))
	if err != nil {
		return err
	}
	unpacking, err := os.ReadDir(filepath.Join(s.root, "unpacking"))
	if err != nil {
		return err
	}
	s.mu.Lock() // held to the end: a snapshot may get the key of one that went
	defer s.mu.Unlock()
	known := func(name string) bool { return s.layers["sha256:"+name] != nil }
	err = errors.Join(
		s.sweepEntries("layers", layers, known),
		s.sweepEntries("origins", origins, known),
		s.sweepEntries("snapshots", snapshots, func(name string) bool { return s.snapshots[name] != nil }),
		s.sweepEntries("unpacking", unpacking, func(name string) bool { return s.making[filepath.Join(s.root, "unpacking", name)] }),
		s.sweepEntries("staging", staging, func(name string) bool {
			return s.making[filepath.Join(s.root, "staging", name)] || strings.HasPrefix(name, binPrefix)
		}))
	return errors.Join(err, s.bin.again())
}

func (s *Store) sweepEntries(dir string, entries []os.DirEntry, needed func(name string) bool) error {
	for _, entry := range entries {
		path := filepath.Join(s.root, dir, entry.Name())
		if needed(entry.Name()) {
			continue
		}
		if _, err := os.Lstat(path); err != nil {
			continue // went to its place meanwhile, or away
		}
		s.log.WithField("op", "sweep "+path).Warn("image store: something that no record names is deleted")
		if err := s.bin.throw(path); err != nil {
			return err
		}
	}
	return nil
}
