package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-runtime/berth/imagestore/erofs"
	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/manifest"
	"github.com/berth-runtime/berth/imagestore/overlay"
)

// stagedLayer is a layer to be placed.
type stagedLayer struct {
	manifest.Layer
	from string
	done layer.Unpacked
}

// adoptLayers completes each staged layer by what those below it say.
func (in *installer) adoptLayers(img *manifest.Image) ([]stagedLayer, error) {
	var staged []stagedLayer
	below := stack{catalog: in.catalog}
	defer below.release()
	for _, l := range img.Layers {
		chain := l.ChainID.String()
		in.mu.Lock()
		record, u := in.layers[chain], in.unpacking[chain]
		if in.suspect[chain] && u != nil && u.staged { // unless this pull found it here, and only then it came under suspicion
			record = nil
		}
		in.mu.Unlock()
		if record != nil {
			below.push(stackedLayer{chain: chain, format: record.Format}, record.Opaque)
			continue
		}
		if u == nil || !u.staged {
			return nil, fmt.Errorf("layer %s: it was lost while others were unpacked", l.ChainID)
		}
		if u.done.OpaqueRoot {
			below.clear()
		}
		if err := in.adoptLayer(u, l, &below); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Blob.Digest, err)
		}
		below.push(stackedLayer{staged: u.dir, format: formatOf(u.done)}, u.done.OpaqueRoot)
		staged = append(staged, stagedLayer{l, u.dir, u.done})
	}
	return staged, nil
}

// adoptLayer completes one.
func (in *installer) adoptLayer(u *unpacking, l manifest.Layer, below *stack) error {
	if len(u.done.Late)+len(u.done.Implied) == 0 {
		return nil
	}
	lowers, err := below.open()
	if err != nil {
		return err
	}
	if u.done.Packed {
		err := layer.AdoptPacked(filesOf(u.dir), u.done.Late, lowers)
		if !errors.Is(err, layer.ErrNotPacked) {
			return err
		}
		// The commit of a pull isn't interrupted.
		done, err := unpackPacked(context.Background(), u.dir, u.done.TarSize, layer.Blob{DiffID: l.DiffID}, in.cfg.budget(), nil)
		if err != nil { // what is left is neither
			in.mu.Lock()
			dir := u.dir
			u.staged, u.dir, u.done = false, "", layer.Unpacked{}
			in.mu.Unlock()
			in.discard(dir)
			return err
		}
		in.mu.Lock()
		u.done = done
		in.mu.Unlock()
	}
	return layer.Adopt(filesOf(u.dir), u.done.Implied, lowers)
}

// formatOf is what a layer in staging is.
func formatOf(done layer.Unpacked) string {
	if done.Packed {
		return formatErofs
	}
	return formatDirectory
}

// stack is the layers that the next one is put on, in their places and in staging, the nearest last. Nothing is mounted unless somebody looks.
type stack struct {
	*catalog
	layers   []stackedLayer
	releases []func()
}

// stackedLayer is in its place, by its chain ID, or a directory in staging.
type stackedLayer struct {
	chain, staged, format string

	path string // once it is open
}

// push puts a layer on top of others, of which an opaque one lets nothing be seen.
func (s *stack) push(l stackedLayer, opaque bool) {
	if opaque {
		s.clear()
	}
	s.layers = append(s.layers, l)
}

func (s *stack) clear() { s.layers = nil }

// open returns paths of the layers, the nearest first, that are good until release.
func (s *stack) open() ([]string, error) {
	paths := make([]string, 0, len(s.layers))
	for i := range s.layers {
		l := &s.layers[i]
		if l.path == "" {
			lower, release, err := s.openLayer(l)
			if err != nil {
				return nil, err
			}
			s.releases = append(s.releases, release)
			l.path = lower.Reach()
		}
		paths = append(paths, l.path)
	}
	slices.Reverse(paths)
	return paths, nil
}

func (s *stack) openLayer(l *stackedLayer) (overlay.Lower, func(), error) {
	if l.chain != "" {
		return s.lower(l.chain, l.format)
	}
	at := overlay.Lower{Path: filesOf(l.staged)}
	if l.format == formatDirectory {
		return at, func() {}, nil
	}
	mount, err := erofs.Mount(at.Path)
	if err != nil {
		return at, nil, err
	}
	at.Mount = mount
	return at, func() { mount.Close() }, nil
}

func (s *stack) release() {
	for _, release := range s.releases {
		release()
	}
}
