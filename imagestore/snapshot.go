package imagestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/overlay"
)

const maxKey = 128

// snapshot is a writable layer over an image's. Its exported fields are snapshot.json.
type snapshot struct {
	Image  string   `json:"image"`
	Layers []string `json:"layers"`         // chain IDs, the base first
	View   bool     `json:"view,omitempty"` // nothing is written to it

	ids   *IDMap        // of the user namespace it is made for; nil: none
	ready chan struct{} // closed when it is on the disk, or has failed
	err   error         // why it failed; read after ready
}

// PrepareSnapshot makes the writable layer named key over an image's layers, which stay as long as it does. A second call with the same
// image is a success. Nothing is synced: after a power cut the containers are gone too. Errors: ErrInvalidKey, ErrNotFound, ErrExists.
func (s *Store) PrepareSnapshot(ctx context.Context, key, imageID string) error {
	return s.prepare(ctx, key, imageID, func(*snapshot) {})
}

// prepare makes the snapshot that set says more of.
func (s *Store) prepare(ctx context.Context, key, imageID string, set func(*snapshot)) error {
	if err := s.prepareSnapshot(ctx, key, imageID, set); err != nil {
		return fmt.Errorf("prepare snapshot %s: %w", key, err)
	}
	return nil
}

func (s *Store) prepareSnapshot(ctx context.Context, key, imageID string, set func(*snapshot)) error {
	if err := checkKey(key); err != nil {
		return err
	}
	img, err := s.Image(imageID)
	if err != nil {
		return err
	}
	snap, mine, err := s.reserve(key, img, set)
	if err != nil {
		return err
	}
	if mine {
		snap.err = s.makeSnapshot(key, snap)
		if snap.err != nil {
			s.mu.Lock()
			delete(s.snapshots, key)
			s.mu.Unlock()
		}
		close(snap.ready)
	}
	select {
	case <-snap.ready:
		return snap.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reserve enters the snapshot in the table, from when on its layers are safe. mine tells whether the caller is to make it.
func (s *Store) reserve(key string, img *Image, set func(*snapshot)) (_ *snapshot, mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if snap := s.snapshots[key]; snap != nil {
		if snap.Image != img.ID {
			return nil, false, fmt.Errorf("%w: of image %s", ErrExists, snap.Image)
		}
		return snap, false, nil
	}
	if s.images[img.ID] == nil { // removed since it was looked up
		return nil, false, fmt.Errorf("%w: %s", ErrNotFound, img.ID)
	}
	snap := &snapshot{Image: img.ID, Layers: img.layers, ready: make(chan struct{})}
	set(snap)
	s.snapshots[key] = snap
	return snap, true, nil
}

// checkKey: a key is the name of a directory.
func checkKey(key string) error {
	valid := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
	}
	if key == "" || len(key) > maxKey || key[0] == '.' || strings.ContainsFunc(key, func(r rune) bool { return !valid(r) }) {
		return fmt.Errorf("%w %q", ErrInvalidKey, key)
	}
	return nil
}

func (s *Store) snapshotDir(key string) string { return filepath.Join(s.root, "snapshots", key) }

// makeSnapshot makes the directories aside and renames them to their place.
func (s *Store) makeSnapshot(key string, snap *snapshot) (err error) {
	dir, err := s.newStaging("staging", "snapshot")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.discard(dir)
		}
	}()
	record, err := json.Marshal(snap)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "snapshot.json"), record, 0o600); err != nil {
		return err
	}
	if !snap.View {
		if err := s.makeWritable(dir, snap); err != nil {
			return err
		}
	}
	if err := os.Rename(dir, s.snapshotDir(key)); err != nil {
		return err
	}
	s.staged(dir)
	return nil
}

// makeWritable makes what an overlay writes to.
func (s *Store) makeWritable(dir string, snap *snapshot) error {
	for _, name := range []string{"fs", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	// The upper's root is what a container sees as /.
	if err := layer.Adopt(filepath.Join(dir, "fs"), []string{""}, s.lowers(snap.Layers)); err != nil {
		return err
	}
	return give(filepath.Join(dir, "fs"), snap.ids)
}

// lowers are the directories of an image's layers, the top one first, as far down as anything is to be seen of them.
func (s *Store) lowers(chains []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var dirs []string
	for _, chain := range slices.Backward(chains) {
		dirs = append(dirs, s.layerDir(chain))
		if record := s.layers[chain]; record != nil && record.Opaque {
			break
		}
	}
	return dirs
}

// MountSnapshot gives the file system of a container as a detached mount, which the caller closes. While it is mounted anywhere
// it must not be mounted again (clone the first by open_tree(2)); afterwards it may be. Errors: ErrNotFound.
func (s *Store) MountSnapshot(key string) (*os.File, error) {
	file, err := s.mountSnapshot(key, nil)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot %s: %w", key, err)
	}
	return file, nil
}

func (s *Store) mountSnapshot(key string, users *os.File) (*os.File, error) {
	snap, err := s.snapshot(key)
	if err != nil {
		return nil, err
	}
	if snap.View {
		return s.mountView(s.lowers(snap.Layers), users)
	}
	dir := s.snapshotDir(key)
	lowers := append(s.lowers(snap.Layers), filepath.Join(s.root, mountpoints))
	return s.mounter.Mount(overlay.Options{Lowers: lowers, Upper: filepath.Join(dir, "fs"),
		Work: filepath.Join(dir, "work"), Volatile: true, Users: users, Base: s.root})
}

// snapshot finds one that is ready.
func (s *Store) snapshot(key string) (*snapshot, error) {
	s.mu.Lock()
	snap := s.snapshots[key]
	s.mu.Unlock()
	if snap == nil {
		return nil, fmt.Errorf("snapshot: %w", ErrNotFound)
	}
	<-snap.ready // soon: its making waits for nobody
	return snap, snap.err
}

// MountImage gives an image's files as a detached read-only mount, which the caller closes. The image must stay as long as the mount is
// used. Errors: ErrNotFound.
func (s *Store) MountImage(imageID string) (*os.File, error) {
	img, err := s.Image(imageID)
	if err != nil {
		return nil, fmt.Errorf("mount image: %w", err)
	}
	file, err := s.mountView(s.lowers(img.layers), nil)
	if err != nil {
		return nil, fmt.Errorf("mount image %s: %w", img.ID, err)
	}
	return file, nil
}

// RemoveSnapshot removes a writable layer, and layers that only it needed. The files are deleted after it returned; a mount of it
// that still exists keeps what it has open. A snapshot that isn't there is a success.
func (s *Store) RemoveSnapshot(key string) error {
	if err := s.removeSnapshot(key); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return nil
}

func (s *Store) removeSnapshot(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if snap, err := s.snapshot(key); snap == nil || err != nil {
		return nil
	}
	if err := s.bin.throw(s.snapshotDir(key)); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.snapshots, key)
	orphans := len(s.garbage()) > 0
	s.mu.Unlock()
	if orphans { // only when its image is gone
		return s.collect()
	}
	return nil
}

// Snapshots lists the keys.
func (s *Store) Snapshots() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]string, 0, len(s.snapshots))
	for key := range s.snapshots {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, nil
}

// readSnapshots finds the snapshots on the disk. What a power cut tore isn't one: it goes with the next sweep.
func (s *Store) readSnapshots() (map[string]*snapshot, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "snapshots"))
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	close(ready)
	found := map[string]*snapshot{}
	for _, entry := range entries {
		key := entry.Name()
		snap := &snapshot{ready: ready}
		raw, err := os.ReadFile(filepath.Join(s.snapshotDir(key), "snapshot.json"))
		if err == nil {
			err = json.Unmarshal(raw, snap)
		}
		if err != nil || len(snap.Layers) == 0 {
			s.log.WithField("op", "read snapshot "+key).WithError(errors.Join(err, ErrCorrupt)).Warn("image store: a snapshot is torn and is dropped")
			continue
		}
		found[key] = snap
	}
	return found, nil
}
