package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/overlay"
	"github.com/berth-runtime/berth/imagestore/project"
	"github.com/berth-runtime/berth/imagestore/registry"
	"github.com/berth-runtime/berth/imagestore/signature"
)

// mostSlots bounds the layers that are unpacked at once where the configuration doesn't say: with the 5 MB that each takes besides zstd's windows, a
// pull stays below 150 MB on machines with many processors too.
const mostSlots = 8

// treeMemory bounds the trees of files that are in memory while layers are packed: some 65,000 files at once.
const treeMemory = 24 << 20

// Store holds images, their unpacked layers and the root file systems made of them. It is safe for concurrent use.
//
// What it does stands in types of one noun each, whose public methods are its own. All stand on the catalog; of the others, each uses
// only what its arrow shows:
//
//	catalog       what there is, in memory and in the database; on the disk (dirs)
//	installer     blobs to layers, layers to an image
//	puller        pull, import                                    ──▶ installer
//	snapshotter   writable layers, views, volumes
//	roots         mounts of those, and of images                  ──▶ snapshotter
//	gauge         what all that takes                             ──▶ snapshotter
//	checker       whether layers are still what they were         ──▶ puller, to repair them
//	janitor       what a crash left, and what nobody waits for    ──▶ installer
type Store struct {
	*catalog
	*puller
	*snapshotter
	*roots
	*gauge
	*checker
	janitor *janitor

	tending sync.WaitGroup // the janitor's, which untend ends
	untend  context.CancelFunc
}

// Open opens the store below root, an absolute path, makes it when there is none, and deletes what a crash left behind (in the background).
// It fails with ErrInUse when another process has it open. Close ends it.
func Open(ctx context.Context, root string, cfg Config, log logrus.FieldLogger) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s, err := newStore(root, cfg, log)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if err := s.janitor.load(ctx); err != nil {
		return nil, fmt.Errorf("open image store: %w", errors.Join(err, s.Close()))
	}
	ctx, s.untend = context.WithCancel(context.WithoutCancel(ctx))
	s.tending.Go(func() { s.janitor.tend(ctx) })
	s.tending.Go(func() { s.checker.freeStranded(ctx, func() error { return probeErofs(s.bin.dir, s.mounter) }) })
	return s, nil
}

func newStore(root string, cfg Config, log logrus.FieldLogger) (*Store, error) {
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("root %q: must be an absolute path", root)
	}
	platform := platforms.Default()
	if cfg.Platform != "" {
		p, err := platforms.Parse(cfg.Platform)
		if err != nil {
			return nil, fmt.Errorf("platform %q: %w", cfg.Platform, err)
		}
		platform = platforms.Only(p)
	}
	slots := cfg.MaxParallelLayers
	if slots == 0 {
		slots = min(runtime.NumCPU()+2, mostSlots)
	}
	mounter, err := overlay.NewMounter()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"", "layers", "origins", "blobs", "staging", "unpacking", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{"staging", "unpacking"} {
		if err := spread(filepath.Join(root, dir)); err != nil {
			return nil, err
		}
	}
	if err := makeMountpoints(filepath.Join(root, mountpoints)); err != nil {
		return nil, err
	}
	db, err := openDatabase(filepath.Join(root, "images.db"))
	if err != nil {
		return nil, err
	}
	c := &catalog{
		dirs: &dirs{root: root, bin: bin{dir: filepath.Join(root, "staging"), log: log}},
		cfg:  cfg, log: log, db: db,
		unpacking: map[string]*unpacking{}, held: map[string]int{}, suspect: map[string]bool{},
	}
	c.format, c.unfit, err = chooseFormat(cfg.LayerFormat, func() error { return probeErofs(c.bin.dir, mounter) })
	if err != nil {
		mounter.Close()
		return nil, errors.Join(err, db.close())
	}
	c.mounts.letGo = mounter.Release
	c.projects, c.uncounted = project.Open(filepath.Join(root, "snapshots"))
	installer := &installer{catalog: c, slots: make(chan struct{}, slots), packer: layer.NewPacker(treeMemory)}
	puller := &puller{catalog: c, installer: installer, platform: platform, flights: newFlights(), verifier: signature.New(cfg.Verification),
		registry: registry.New(registry.Options{ConfigDir: cfg.RegistryConfigDir, AuthFile: cfg.RegistryAuthFile,
			UserAgent: "berth", Stall: time.Duration(cfg.PullProgressTimeout), MinRate: cfg.PullMinRate,
			Ranges: cfg.ParallelRanges, RangesFrom: cfg.ParallelRangesFrom})}
	snapshotter := &snapshotter{catalog: c}
	return &Store{
		catalog: c, puller: puller, snapshotter: snapshotter,
		roots:   &roots{catalog: c, snapshotter: snapshotter, mounter: mounter},
		gauge:   &gauge{catalog: c, snapshotter: snapshotter},
		checker: &checker{catalog: c, puller: puller},
		janitor: &janitor{catalog: c, installer: installer},
	}, nil
}

// Close stops pulls, waits for deletions, and gives the store's lock back. It may be called twice.
func (s *Store) Close() error {
	if s.untend != nil {
		s.untend()
	}
	s.tending.Wait()
	s.meter.close()
	s.flights.stop()
	s.dropSpare()
	s.mounts.close()
	s.roots.mounter.Close()
	s.bin.wait()
	if s.projects != nil {
		return errors.Join(s.projects.Close(), s.db.close())
	}
	return s.db.close()
}
