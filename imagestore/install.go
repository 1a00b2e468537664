package imagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-runtime/berth/imagestore/fault"
	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/manifest"
)

// unpacking is a layer on its way from a blob to a record, shared by the pulls that hold it. Guarded by Store.mu, but dir and done, which
// belong to the pull that has busy set, and are everybody's to read once staged is.
type unpacking struct {
	busy    bool          // somebody is at it
	changed chan struct{} // closed when busy ends
	staged  bool          // unpacked and checked, at dir
	kept    time.Time     // since when no pull holds it; it waits for the next
	dir     string
	done    layer.Unpacked
}

// install gets an image's missing layers out of blobs and gives it its names. When it fails nothing is left behind but whole layers, for a
// while, where trying again may help.
func (s *Store) install(ctx context.Context, blobs manifest.Blobs, img *manifest.Image, n names) (_ *Image, err error) {
	missing := s.hold(img)
	progressOf(ctx).begin(img.Layers, missing)
	defer func() {
		s.letGo(img, err != nil && mendable(err))
		if noRoom(err) {
			s.dropStaged(0)
		}
	}()
	if err := s.unpackAll(ctx, blobs, missing); err != nil {
		return nil, err
	}
	return s.record(img, n)
}

// hold keeps an image's layers from being collected, and returns those that aren't here.
func (s *Store) hold(img *manifest.Image) []manifest.Layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing []manifest.Layer
	for _, l := range img.Layers {
		chain := l.ChainID.String()
		s.held[chain]++
		if s.layers[chain] != nil && !s.suspect[chain] {
			continue
		}
		missing = append(missing, l)
		if s.unpacking[chain] == nil {
			s.unpacking[chain] = &unpacking{changed: make(chan struct{})}
		}
	}
	return missing
}

// letGo is hold's end. keep is for layers that are whole and not recorded.
func (s *Store) letGo(img *manifest.Image, keep bool) {
	s.mu.Lock()
	var dirs []string
	for _, l := range img.Layers {
		chain := l.ChainID.String()
		if s.held[chain]--; s.held[chain] == 0 {
			delete(s.held, chain)
			switch u := s.unpacking[chain]; {
			case u == nil: // recorded
			case keep && u.staged:
				u.kept = time.Now()
			default:
				dirs = append(dirs, u.dir)
				delete(s.unpacking, chain)
			}
		}
	}
	orphans := len(s.garbage()) > 0
	s.mu.Unlock()
	for _, dir := range dirs {
		if dir != "" {
			s.discard(dir)
		}
	}
	if orphans { // the image was removed while this pull held its layers
		if err := s.collect(); err != nil {
			s.log.WithField("op", "collect layers").WithError(err).Warn("image store: unused layers stay")
		}
	}
}

// unpackAll works on all layers at once, as far as the store's slots allow: the largest first, so that none of them is left for the end.
func (s *Store) unpackAll(ctx context.Context, blobs manifest.Blobs, missing []manifest.Layer) error {
	if len(missing) == 0 {
		return nil
	}
	budget := layer.NewBudget(s.cfg.MaxImageBytes, s.cfg.MaxImageEntries)
	order := slices.Clone(missing)
	slices.SortStableFunc(order, func(a, b manifest.Layer) int { return cmp.Compare(b.Blob.Size, a.Blob.Size) })
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range order {
		group.Go(func() error {
			err := fault.Guard(func() error { return s.unpackShared(ctx, blobs, l, budget) })
			if err != nil {
				return fmt.Errorf("layer %s: %w", cmp.Or(l.Blob.Digest, l.DiffID), err)
			}
			progressOf(ctx).set(l, LayerDone, 0)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return syncAll(s.root)
}

// unpackShared returns when the layer is staged or recorded, by this pull or another. When another one fails at it, this one tries itself:
// the other's credentials or context may have been the reason.
func (s *Store) unpackShared(ctx context.Context, blobs manifest.Blobs, l manifest.Layer, budget *layer.Budget) error {
	for {
		u, wait := s.claim(l.ChainID.String())
		if u == nil && wait == nil {
			return nil
		}
		if u != nil {
			return s.unpackClaimed(ctx, u, blobs, l, budget)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// claim gives the layer to the caller to unpack, or what to wait for, or neither when it is done.
func (s *Store) claim(chain string) (mine *unpacking, wait <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.unpacking[chain]
	switch {
	case u == nil || u.staged:
		return nil, nil
	case u.busy:
		return nil, u.changed
	}
	u.busy = true
	return u, nil
}

func (s *Store) unpackClaimed(ctx context.Context, u *unpacking, blobs manifest.Blobs, l manifest.Layer, budget *layer.Budget) error {
	dir, done, err := s.unpack(ctx, blobs, l, budget)
	if err != nil && dir != "" {
		s.discard(dir)
		dir = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u.busy, u.staged, u.dir, u.done = false, err == nil, dir, done
	close(u.changed)
	u.changed = make(chan struct{})
	return err
}

func (s *Store) unpack(ctx context.Context, blobs manifest.Blobs, l manifest.Layer, budget *layer.Budget) (dir string, _ layer.Unpacked, err error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return "", layer.Unpacked{}, context.Cause(ctx)
	}
	if dir, err = s.newStaging("unpacking", "layer"); err != nil {
		return "", layer.Unpacked{}, err
	}
	origin, err := makeStagedLayer(dir)
	if err != nil {
		return dir, layer.Unpacked{}, err
	}
	defer origin.Close()
	ctx, dog, release := watch(ctx, time.Duration(s.cfg.PullProgressTimeout))
	defer release()
	open := func(ctx context.Context) (io.ReadCloser, error) {
		blob, err := blobs.Fetch(ctx, l.Blob)
		if err != nil {
			return nil, err
		}
		return counted{blob, l, progressOf(ctx)}, nil
	}
	want := layer.Blob{MediaType: l.Blob.MediaType, Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID}
	var done layer.Unpacked
	err = fault.Guard(func() (err error) { // here, so that the caller learns of dir
		done, err = layer.Unpack(ctx, filesOf(dir), origin, open, want, budget, dog.touch)
		return err
	})
	if err == nil {
		done.Bytes, err = addSize(done.Bytes, origin)
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = context.Cause(ctx)
	}
	return dir, done, err
}

// filesOf and originOf are what a layer's directory in staging has.
func filesOf(dir string) string  { return filepath.Join(dir, "files") }
func originOf(dir string) string { return filepath.Join(dir, "origin") }

// makeStagedLayer fills such a directory.
func makeStagedLayer(dir string) (origin *os.File, err error) {
	if err := os.Mkdir(filesOf(dir), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(originOf(dir), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// addSize adds what a file takes on the disk.
func addSize(bytes int64, f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return bytes + (info.Size()+4095)/4096*4096, nil
}
