package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/berth-runtime/berth/imagestore/layer"
)

// LayerCheck is what Verify found of one layer.
type LayerCheck struct {
	// Image is the id of the first of the images that have the layer, Layer the digest of its tar.
	Image, Layer string
	// Problem is what is wrong with it; empty: nothing.
	Problem string
	// Damaged: the layer isn't what it was. Otherwise a problem is that it can't be checked.
	Damaged bool
	// Repaired: it was pulled again.
	Repaired bool
}

// Verify reads the layers of images again, of all images when refs is empty, and reports each: whether its files make the tar that they
// came from, with the modes and owners that it says. repair pulls damaged layers again, anonymously or with the node's own credentials, and not
// those that snapshots use. Errors: ErrNotFound and ErrInvalidReference for refs, the context's cause; a damaged layer is none.
func (s *Store) Verify(ctx context.Context, refs []string, repair bool, report func(LayerCheck)) error {
	images := s.Images()
	if len(refs) > 0 {
		images = nil
		for _, ref := range refs {
			img, err := s.Image(ref)
			if err != nil {
				return fmt.Errorf("verify image: %w", err)
			}
			images = append(images, img)
		}
	}
	seen := map[string]bool{}
	for _, img := range images {
		if err := s.verifyImage(ctx, img, repair, seen, report); err != nil {
			return fmt.Errorf("verify image %s: %w", img.ID, err)
		}
	}
	return nil
}

func (s *Store) verifyImage(ctx context.Context, img *Image, repair bool, seen map[string]bool, report func(LayerCheck)) error {
	release := s.keep(img)
	defer release()
	var damaged []LayerCheck
	for _, chain := range img.layers {
		if seen[chain] {
			continue
		}
		seen[chain] = true
		check, err := s.checkLayer(ctx, chain)
		if err != nil {
			return err
		}
		check.Image = img.ID
		if check.Damaged && repair && s.distrust(chain, &check) {
			damaged = append(damaged, check)
			continue
		}
		report(check)
	}
	if len(damaged) == 0 {
		return nil
	}
	err := s.pullAgain(ctx, img)
	for _, check := range damaged {
		if check.Repaired = err == nil; err != nil {
			check.Problem += "; pulled again it could not be: " + err.Error()
		}
		report(check)
	}
	return nil
}

// keep keeps an image's layers from being collected until the function that it returns is called.
func (s *Store) keep(img *Image) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, chain := range img.layers {
		s.held[chain]++
	}
	return func() {
		s.mu.Lock()
		for _, chain := range img.layers {
			if s.held[chain]--; s.held[chain] == 0 {
				delete(s.held, chain)
			}
		}
		orphans := len(s.garbage()) > 0
		s.mu.Unlock()
		if orphans {
			if err := s.collect(); err != nil {
				s.log.WithField("op", "collect layers").WithError(err).Warn("image store: unused layers stay")
			}
		}
	}
}

// checkLayer returns an error only when ctx ended.
func (s *Store) checkLayer(ctx context.Context, chain string) (LayerCheck, error) {
	s.mu.Lock()
	record := s.layers[chain]
	s.mu.Unlock()
	if record == nil {
		return LayerCheck{Problem: "it is gone"}, nil
	}
	check := LayerCheck{Layer: record.DiffID.String()}
	if !record.Origin {
		check.Problem = "it can't be checked: its tar brought a file twice, or was unpacked by an earlier berth"
		return check, nil
	}
	_, err := guarded(s.log, "check layer "+check.Layer, func() (struct{}, error) {
		return struct{}{}, s.checkFiles(ctx, chain, record.DiffID)
	})
	switch {
	case ctx.Err() != nil:
		return check, context.Cause(ctx)
	case errors.Is(err, layer.ErrCorrupt), errors.Is(err, os.ErrNotExist):
		check.Problem, check.Damaged = err.Error(), true
	case err != nil:
		check.Problem = err.Error()
	}
	return check, nil
}

func (s *Store) checkFiles(ctx context.Context, chain string, diffID digest.Digest) error {
	origin, err := os.Open(s.originFile(chain))
	if err != nil {
		return err
	}
	defer origin.Close()
	return layer.Check(ctx, s.layerDir(chain), origin, diffID)
}

// distrust lets the next pull make a layer anew, unless containers run on it.
func (s *Store) distrust(chain string, check *LayerCheck) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, snap := range s.snapshots {
		if slices.Contains(snap.Layers, chain) {
			check.Problem += "; it can't be repaired while snapshot " + key + " uses it"
			return false
		}
	}
	s.suspect[chain] = true
	return true
}

// pullAgain gets an image's distrusted layers anew, by a name that can't have come to mean another image if there is one.
func (s *Store) pullAgain(ctx context.Context, img *Image) error {
	names := slices.Concat(img.Digests, img.Tags)
	if len(names) == 0 {
		return errors.New("it has no name")
	}
	var failed error
	for _, name := range names {
		again, err := s.Pull(ctx, name, nil)
		if err == nil && again.ID != img.ID {
			err = fmt.Errorf("%s is another image now", name)
		}
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
	}
	return failed
}
