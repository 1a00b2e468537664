package imagestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/platforms"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/imagestore/overlay"
	"github.com/berth-runtime/berth/imagestore/registry"
	"github.com/berth-runtime/berth/imagestore/signature"
)

// Store holds images, their unpacked layers and the root file systems made of them. It is safe for concurrent use.
type Store struct {
	root     string
	cfg      Config
	log      logrus.FieldLogger
	db       *database
	registry *registry.Client
	verifier *signature.Verifier
	mounter  *overlay.Mounter
	platform platforms.MatchComparer
	slots    chan struct{} // one for each layer that is being unpacked
	flights  *flights
	bin      bin
	meter    meter
	tending  sync.WaitGroup // tend, which untend ends
	untend   context.CancelFunc

	// commit orders the writers of db. It is taken before mu, and held over disk waits.
	commit sync.Mutex

	// mu guards what follows, for moments.
	mu        sync.Mutex
	records   map[string]*imageRecord
	images    map[string]*Image
	layers    map[string]*layerRecord
	unpacking map[string]*unpacking
	held      map[string]int // layers that a running pull needs, by chain ID
	snapshots map[string]*snapshot
	making    map[string]bool // directories in staging that somebody is at
	suspect   map[string]bool // layers that were found damaged: the next pull makes them anew

	view atomic.Pointer[view]
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
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("open image store: %w", errors.Join(err, s.Close()))
	}
	ctx, s.untend = context.WithCancel(context.WithoutCancel(ctx))
	s.tending.Go(func() { s.tend(ctx) })
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
		slots = runtime.NumCPU() + 2
	}
	mounter, err := overlay.NewMounter()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"", "layers", "origins", "staging", "unpacking", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, err
		}
	}
	if err := spread(filepath.Join(root, "unpacking")); err != nil {
		return nil, err
	}
	if err := makeMountpoints(filepath.Join(root, mountpoints)); err != nil {
		return nil, err
	}
	db, err := openDatabase(filepath.Join(root, "images.db"))
	if err != nil {
		return nil, err
	}
	return &Store{root: root, cfg: cfg, log: log, db: db, platform: platform, mounter: mounter, verifier: signature.New(cfg.Verification),
		registry: registry.New(registry.Options{ConfigDir: cfg.RegistryConfigDir, AuthFile: cfg.RegistryAuthFile,
			UserAgent: "berth", Stall: time.Duration(cfg.PullProgressTimeout), MinRate: cfg.PullMinRate}), slots: make(chan struct{}, slots), flights: newFlights(),
		bin:       bin{dir: filepath.Join(root, "staging"), log: log},
		unpacking: map[string]*unpacking{}, held: map[string]int{}, making: map[string]bool{}, suspect: map[string]bool{}}, nil
}

// Close stops pulls, waits for deletions, and gives the store's lock back. It may be called twice.
func (s *Store) Close() error {
	if s.untend != nil {
		s.untend()
	}
	s.tending.Wait()
	s.meter.close()
	s.flights.stop()
	s.bin.wait()
	return s.db.close()
}

// Image finds an image by its id, the beginning of its id, or a reference: tag, no tag (":latest"), digest. Errors: ErrNotFound,
// ErrInvalidReference.
func (s *Store) Image(ref string) (*Image, error) { return s.view.Load().find(ref) }

// Images lists all images by id. The caller must not change the slice.
func (s *Store) Images() []*Image { return s.view.Load().images }

// publish lets readers see what writers have done. Under mu.
func (s *Store) publish() { s.view.Store(newView(s.images)) }

func (s *Store) layerDir(chain string) string {
	return filepath.Join(s.root, "layers", strings.TrimPrefix(chain, "sha256:"))
}

// originFile has what of a layer's tar isn't in its files.
func (s *Store) originFile(chain string) string {
	return filepath.Join(s.root, "origins", strings.TrimPrefix(chain, "sha256:"))
}

// throwLayer deletes what is on the disk of a layer.
func (s *Store) throwLayer(chain string) error {
	return errors.Join(s.bin.throw(s.layerDir(chain)), s.bin.throw(s.originFile(chain)))
}

// newStaging makes a directory, in "staging" or "unpacking", that is the caller's until discard or staged.
func (s *Store) newStaging(in, prefix string) (string, error) {
	dir := filepath.Join(s.root, in, prefix+"-"+rand.Text())
	s.mu.Lock()
	s.making[dir] = true // first: a sweep that sees the directory must know it
	s.mu.Unlock()
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.staged(dir)
		return "", err
	}
	return dir, nil
}

// staged says that a directory of newStaging went to its place.
func (s *Store) staged(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.making, dir)
}

// discard deletes a directory of newStaging.
func (s *Store) discard(dir string) {
	s.bin.remove(dir)
	s.staged(dir)
}
