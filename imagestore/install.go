package imagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-runtime/berth/imagestore/fault"
	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/manifest"
)

// unpacking is a layer on its way from a blob to a record, shared by the pulls that hold it. Guarded by catalog.mu, but dir and done, which
// belong to the pull that has busy set, and are everybody's to read once staged is.
type unpacking struct {
	busy    bool          // somebody is at it
	changed chan struct{} // closed when busy ends
	staged  bool          // unpacked and checked, at dir
	kept    time.Time     // since when no pull holds it; it waits for the next
	dir     string
	done    layer.Unpacked
}

// installer makes images of blobs.
type installer struct {
	*catalog
	slots  chan struct{} // one for each layer that is being unpacked
	packer *layer.Packer
}

// install gets an image's missing layers out of blobs and gives it its names. When it fails nothing is left behind but whole layers, for a
// while, where trying again may help.
func (in *installer) install(ctx context.Context, blobs manifest.Blobs, img *manifest.Image, n names) (_ *Image, err error) {
	missing := in.hold(img)
	progressOf(ctx).begin(img.Layers, missing)
	defer func() {
		in.letGo(img, err != nil && mendable(err))
		if noRoom(err) {
			in.dropStaged(0)
		}
	}()
	if err := in.unpackAll(ctx, blobs, missing); err != nil {
		return nil, err
	}
	return in.record(img, n)
}

// hold keeps an image's layers from being collected, and returns those that aren't here.
func (in *installer) hold(img *manifest.Image) []manifest.Layer {
	in.mu.Lock()
	defer in.mu.Unlock()
	var missing []manifest.Layer
	for _, l := range img.Layers {
		chain := l.ChainID.String()
		in.held[chain]++
		if in.layers[chain] != nil && !in.suspect[chain] {
			continue
		}
		missing = append(missing, l)
		if in.unpacking[chain] == nil {
			in.unpacking[chain] = &unpacking{changed: make(chan struct{})}
		}
	}
	return missing
}

// letGo is hold's end. keep is for layers that are whole and not recorded.
func (in *installer) letGo(img *manifest.Image, keep bool) {
	in.mu.Lock()
	var dirs []string
	for _, l := range img.Layers {
		chain := l.ChainID.String()
		if in.held[chain]--; in.held[chain] == 0 {
			delete(in.held, chain)
			switch u := in.unpacking[chain]; {
			case u == nil: // recorded
			case keep && u.staged:
				u.kept = time.Now()
			default:
				dirs = append(dirs, u.dir)
				delete(in.unpacking, chain)
			}
		}
	}
	orphans := len(in.garbage()) > 0
	in.mu.Unlock()
	for _, dir := range dirs {
		if dir != "" {
			in.discard(dir)
		}
	}
	if orphans { // the image was removed while this pull held its layers
		if err := in.collect(); err != nil {
			in.log.WithField("op", "collect layers").WithError(err).Warn("image store: unused layers stay")
		}
	}
}

// unpackAll works on all layers at once, as far as the store's slots allow: the largest first, so that none of them is left for the end.
func (in *installer) unpackAll(ctx context.Context, blobs manifest.Blobs, missing []manifest.Layer) error {
	if len(missing) == 0 {
		return nil
	}
	defer tune(cap(in.slots))()
	budget := in.cfg.budget()
	order := slices.Clone(missing)
	slices.SortStableFunc(order, func(a, b manifest.Layer) int { return cmp.Compare(b.Blob.Size, a.Blob.Size) })
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range order {
		group.Go(func() error {
			err := fault.Guard(func() error { return in.unpackShared(ctx, blobs, l, budget) })
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
	return in.syncStaged(missing)
}

// unpackShared returns when the layer is staged or recorded, by this pull or another. When another one fails at it, this one tries itself:
// the other's credentials or context may have been the reason.
func (in *installer) unpackShared(ctx context.Context, blobs manifest.Blobs, l manifest.Layer, budget *layer.Budget) error {
	for {
		u, wait := in.claim(l.ChainID.String())
		if u == nil && wait == nil {
			return nil
		}
		if u != nil {
			return in.unpackClaimed(ctx, u, blobs, l, budget)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// claim gives the layer to the caller to unpack, or what to wait for, or neither when it is done.
func (in *installer) claim(chain string) (mine *unpacking, wait <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	u := in.unpacking[chain]
	switch {
	case u == nil || u.staged:
		return nil, nil
	case u.busy:
		return nil, u.changed
	}
	u.busy = true
	return u, nil
}

func (in *installer) unpackClaimed(ctx context.Context, u *unpacking, blobs manifest.Blobs, l manifest.Layer, budget *layer.Budget) error {
	dir, done, err := in.unpackKept(ctx, l, budget)
	if err != nil && ctx.Err() == nil {
		dir, done, err = in.unpackOwn(ctx, l, budget)
	}
	if err != nil && ctx.Err() == nil {
		dir, done, err = in.unpackOrDiscard(ctx, blobs, l, budget)
	}
	if err != nil && ctx.Err() != nil { // and not that it wasn't here
		err = context.Cause(ctx)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	u.busy, u.staged, u.dir, u.done = false, err == nil, dir, done
	close(u.changed)
	u.changed = make(chan struct{})
	return err
}

// unpackKept makes a layer of a blob that was kept, with another layer or with one that is distrusted. An error isn't the pull's.
func (in *installer) unpackKept(ctx context.Context, l manifest.Layer, budget *layer.Budget) (string, layer.Unpacked, error) {
	path, size := in.kept(l.Blob.Digest)
	if path == "" || size != l.Blob.Size { // by a manifest that lies: what fetching makes of it counts
		return "", layer.Unpacked{}, errNotKept
	}
	// Unpacking checks the digest too, but knows only at the end: a damaged blob would have taken of the image's budget until then, and what
	// is fetched in its place be refused as too large.
	if err := checkKept(ctx, path, l.Blob.Digest); err != nil {
		return "", layer.Unpacked{}, err
	}
	return in.unpackOrDiscard(ctx, shelf{in.catalog}, l, budget)
}

// unpackOrDiscard leaves nothing when it fails.
func (in *installer) unpackOrDiscard(ctx context.Context, blobs manifest.Blobs, l manifest.Layer, budget *layer.Budget) (string, layer.Unpacked, error) {
	dir, done, err := in.unpack(ctx, blobs, l, budget)
	if err != nil && dir != "" {
		in.discard(dir)
		dir = ""
	}
	return dir, done, err
}

func (in *installer) unpack(ctx context.Context, blobs manifest.Blobs, l manifest.Layer, budget *layer.Budget) (dir string, _ layer.Unpacked, err error) {
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	case <-ctx.Done():
		return "", layer.Unpacked{}, context.Cause(ctx)
	}
	if dir, err = in.newStaging("unpacking", "layer"); err != nil {
		return "", layer.Unpacked{}, err
	}
	ctx, dog, release := watch(ctx, time.Duration(in.cfg.PullProgressTimeout))
	defer release()
	open := func(ctx context.Context) (io.ReadCloser, error) {
		blob, err := blobs.Fetch(ctx, l.Blob)
		if err == nil && in.cfg.KeepBlobs && l.Blob.Digest != "" {
			blob, err = keepBlob(blob, dir)
		}
		if err != nil {
			return nil, err
		}
		return counted{blob, l, progressOf(ctx), dog}, nil
	}
	want := layer.Blob{MediaType: l.Blob.MediaType, Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID}
	var done layer.Unpacked
	err = fault.Guard(func() (err error) { // here, so that the caller learns of dir
		done, err = in.make(ctx, dir, open, want, budget, dog.touch)
		return err
	})
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = context.Cause(ctx)
	}
	return dir, done, err
}
