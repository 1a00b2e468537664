package imagestore

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// Writable layers are measured anew when somebody asks and the last measure is older.
	usageAge = 10 * time.Second
	// maxWalk bounds one measure: what a container fills with more files than that is counted as far as this.
	maxWalk = 500_000
)

// usageCache is what writable layers take.
type usageCache struct {
	mu            sync.Mutex
	at            time.Time
	bytes, inodes uint64
}

// Usage tells what the store takes on the disk. Layers are counted as they were unpacked, without looking at the disk; writable layers by walking
// them, at most every 10 seconds and to a bound. The error is the context's.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	usage := Usage{Mountpoint: s.root}
	if err := s.measure(ctx); err != nil {
		return Usage{}, fmt.Errorf("measure writable layers: %w", err)
	}
	usage.Bytes, usage.Inodes = s.usage.total()
	s.mu.Lock()
	for _, record := range s.layers {
		usage.Bytes += uint64(record.Bytes)
		usage.Inodes += uint64(record.Inodes)
	}
	s.mu.Unlock()
	usage.Bytes += uint64(s.db.size())
	usage.Inodes++
	return usage, nil
}

func (c *usageCache) total() (bytes, inodes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes, c.inodes
}

// measure walks the writable layers, unless somebody did lately. Only one caller at a time walks; the others wait for it.
func (s *Store) measure(ctx context.Context) error {
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	if time.Since(s.usage.at) < usageAge {
		return nil
	}
	var bytes, inodes uint64
	err := filepath.WalkDir(filepath.Join(s.root, "snapshots"), func(_ string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return nil // being deleted
		}
		if inodes >= maxWalk {
			return filepath.SkipAll
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		if st, is := info.Sys().(*syscall.Stat_t); is {
			bytes += uint64(st.Blocks) * 512
			inodes++
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.usage.at, s.usage.bytes, s.usage.inodes = time.Now(), bytes, inodes
	return nil
}
