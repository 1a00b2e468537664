package imagestore

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
)

const (
	// usageAge is how old a measure of the writable layers may be when somebody asks; measuring then begins anew, behind the asker's back.
	usageAge = 10 * time.Second
	// restFactor bounds what measuring takes of the machine: a round that took a second is followed by 20 without one.
	restFactor = 20
	// firstMeasure is how long an asker waits when nothing was measured yet.
	firstMeasure = time.Second
)

// SnapshotUsage is what one writable layer takes.
type SnapshotUsage struct {
	Bytes, Inodes uint64
	// At is when that was measured.
	At time.Time
}

// meter knows what writable layers take. They are measured, in rounds, and only while somebody asks.
type meter struct {
	mu      sync.Mutex
	sizes   map[string]SnapshotUsage // by key
	ended   time.Time                // of the last round
	next    time.Time                // no round begins before
	running chan struct{}            // closed when the present round ends; nil: there is none
	stop    context.CancelFunc
	stopped bool
	workers sync.WaitGroup // rounds
}

// gauge tells what the store takes.
type gauge struct {
	*catalog
	snapshotter *snapshotter
	meter       meter
}

// Usage tells what the store takes on the disk: layers as they were unpacked, and writable layers as they were last measured. It looks at
// memory only; a first measure is waited for, but not long. The error is the context's.
func (g *gauge) Usage(ctx context.Context) (Usage, error) {
	if err := g.meter.fresh(ctx, g.measureAll); err != nil {
		return Usage{}, fmt.Errorf("measure writable layers: %w", err)
	}
	usage := Usage{Mountpoint: g.root}
	g.meter.mu.Lock()
	sizes := maps.Clone(g.meter.sizes)
	g.meter.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.snapshots {
		usage.Bytes += sizes[key].Bytes
		usage.Inodes += sizes[key].Inodes
	}
	for _, record := range g.layers {
		usage.Bytes += uint64(record.Bytes + record.Kept)
		usage.Inodes += uint64(record.Inodes)
		if record.Kept > 0 {
			usage.Inodes++
		}
	}
	for _, u := range g.unpacking {
		usage.Bytes += uint64(u.done.Bytes)
		usage.Inodes += uint64(u.done.Inodes)
	}
	usage.Bytes += uint64(g.db.size())
	usage.Inodes++
	return usage, nil
}

// Mountpoint is a directory on the file system that the store is on.
func (s *Store) Mountpoint() string { return s.root }

// SnapshotUsage tells what the writable layer named key takes. It never waits: one that wasn't measured yet takes what it did when it was
// made, at the time of asking. Errors: ErrNotFound.
func (g *gauge) SnapshotUsage(key string) (SnapshotUsage, error) {
	g.mu.Lock()
	snap := g.snapshots[key]
	g.mu.Unlock()
	if snap == nil {
		return SnapshotUsage{}, fmt.Errorf("measure snapshot %s: %w", key, ErrNotFound)
	}
	g.meter.start(g.measureAll)
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	size, measured := g.meter.sizes[key]
	if !measured {
		return SnapshotUsage{Bytes: 4 * 4096, Inodes: 4, At: time.Now()}, nil
	}
	return size, nil
}

// fresh starts a round when it is time for one, and waits when there was none before.
func (m *meter) fresh(ctx context.Context, measure func(context.Context) map[string]SnapshotUsage) error {
	running := m.start(measure)
	m.mu.Lock()
	first := m.ended.IsZero()
	m.mu.Unlock()
	if running == nil || !first {
		return nil
	}
	timer := time.NewTimer(firstMeasure)
	defer timer.Stop()
	select {
	case <-running:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start returns what is closed when the present round ends; nil when there is none.
func (m *meter) start(measure func(context.Context) map[string]SnapshotUsage) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running != nil || m.stopped || time.Now().Before(m.next) {
		return m.running
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background()) // the daemon's own work; ends with close
	done := make(chan struct{})
	m.running = done
	m.workers.Go(func() {
		began := time.Now()
		sizes := measure(ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sizes, m.running, m.ended = sizes, nil, time.Now()
		m.next = m.ended.Add(max(usageAge, restFactor*time.Since(began)))
		m.stop()
		close(done)
	})
	return done
}

// close ends a round that runs, and lets none begin.
func (m *meter) close() {
	m.mu.Lock()
	m.stopped = true
	if m.running != nil {
		m.stop()
	}
	m.mu.Unlock()
	m.workers.Wait()
}

// measure asks the kernel, or walks where it doesn't count: the layer may also be older than the counting, or a container's that could evade it.
func (g *gauge) measure(ctx context.Context, dir string) (bytes, inodes uint64, err error) {
	if g.projects != nil {
		if bytes, inodes, err = g.projects.Usage(dir); err == nil {
			return bytes, inodes, nil
		}
	}
	return diskUsage(ctx, dir)
}

// Measuring tells how writable layers are measured, and why so.
func (g *gauge) Measuring() string {
	if g.projects != nil {
		return "project quotas, in user namespaces; walking: others' files can leave their project"
	}
	return fmt.Sprintf("walking: %v", g.uncounted)
}

// measureAll measures the writable layers. One that can't be measured keeps the size it had.
func (g *gauge) measureAll(ctx context.Context) map[string]SnapshotUsage {
	keys, err := g.snapshotter.Snapshots()
	if err != nil {
		return nil
	}
	g.meter.mu.Lock()
	old := g.meter.sizes
	g.meter.mu.Unlock()
	sizes := make(map[string]SnapshotUsage, len(keys))
	for _, key := range keys {
		bytes, inodes, err := g.measure(ctx, g.snapshotDir(key))
		if err != nil {
			if last, measured := old[key]; measured {
				sizes[key] = last
			}
			continue
		}
		sizes[key] = SnapshotUsage{Bytes: bytes, Inodes: inodes, At: time.Now()}
	}
	return sizes
}
