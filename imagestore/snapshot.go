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

	"golang.org/x/sys/unix"

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

// snapshotter makes and removes snapshots.
type snapshotter struct {
	*catalog
	spare spare
}

// PrepareSnapshot makes the writable layer named key over an image's layers, which stay as long as it does. A second call with the same
// image is a success. Nothing is synced: after a power cut the containers are gone too. Errors: ErrInvalidKey, ErrNotFound, ErrExists.
func (sn *snapshotter) PrepareSnapshot(ctx context.Context, key, imageID string) error {
	return sn.prepare(ctx, key, imageID, func(*snapshot) {})
}

// prepare makes the snapshot that set says more of.
func (sn *snapshotter) prepare(ctx context.Context, key, imageID string, set func(*snapshot)) error {
	if err := sn.prepareSnapshot(ctx, key, imageID, set); err != nil {
		return fmt.Errorf("prepare snapshot %s: %w", key, err)
	}
	return nil
}

func (sn *snapshotter) prepareSnapshot(ctx context.Context, key, imageID string, set func(*snapshot)) error {
	if err := checkKey(key); err != nil {
		return err
	}
	img, err := sn.Image(imageID)
	if err != nil {
		return err
	}
	snap, mine, err := sn.reserve(key, img, set)
	if err != nil {
		return err
	}
	if mine {
		snap.err = sn.makeSnapshot(key, snap)
		if snap.err != nil {
			sn.mu.Lock()
			delete(sn.snapshots, key)
			sn.mu.Unlock()
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
func (sn *snapshotter) reserve(key string, img *Image, set func(*snapshot)) (_ *snapshot, mine bool, err error) {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	if snap := sn.snapshots[key]; snap != nil {
		if snap.Image != img.ID {
			return nil, false, fmt.Errorf("%w: of image %s", ErrExists, snap.Image)
		}
		return snap, false, nil
	}
	if sn.images[img.ID] == nil { // removed since it was looked up
		return nil, false, fmt.Errorf("%w: %s", ErrNotFound, img.ID)
	}
	snap := &snapshot{Image: img.ID, Layers: img.layers, ready: make(chan struct{})}
	set(snap)
	sn.snapshots[key] = snap
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

func (d *dirs) snapshotDir(key string) string { return filepath.Join(d.root, "snapshots", key) }

// makeSnapshot makes the directories aside and renames them to their place.
func (sn *snapshotter) makeSnapshot(key string, snap *snapshot) (err error) {
	dir, err := sn.place(snap)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			sn.discard(dir)
		}
	}()
	record, err := json.Marshal(snap)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "snapshot.json"), record, 0o600); err != nil {
		return err
	}
	if snap.View {
		err = os.Mkdir(filepath.Join(dir, nothing), 0o755)
	} else {
		err = sn.adopt(dir, snap)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(dir, sn.snapshotDir(key)); err != nil {
		return err
	}
	sn.staged(dir)
	return nil
}

// nothing is an empty directory of a view's: with it one layer is enough for an overlay, which can have a label of
// its own, as a bind mount can't.
const nothing = "nothing"

// place is a directory in staging for a snapshot; a writable one's has what an overlay writes to.
func (sn *snapshotter) place(snap *snapshot) (string, error) {
	if snap.View {
		return sn.newStaging("staging", "snapshot")
	}
	if sn.counted(snap) { // as the spare isn't
		return sn.writableDirs(true)
	}
	if dir := sn.spare.take(); dir != "" {
		return dir, nil
	}
	return sn.writableDirs(false)
}

// adopt gives the upper's root, which is what a container sees as /, what the image says of it.
func (sn *snapshotter) adopt(dir string, snap *snapshot) error {
	if err := sn.adoptDirs(filepath.Join(dir, "fs"), []string{""}, snap); err != nil {
		return err
	}
	return give(filepath.Join(dir, "fs"), snap.ids)
}

// adoptDirs gives directories of a snapshot's upper what its layers say of them.
func (cat *catalog) adoptDirs(dir string, implied []string, snap *snapshot) error {
	lowers, release, err := cat.lowers(snap.Layers)
	if err != nil {
		return err
	}
	defer release()
	return layer.Adopt(dir, implied, reach(lowers))
}

// roots mounts snapshots and images.
type roots struct {
	*catalog
	snapshotter *snapshotter
	mounter     *overlay.Mounter
}

// MountSnapshot gives the file system of a container as a detached mount, which the caller closes. While it is mounted anywhere
// it must not be mounted again (clone the first by open_tree(2)); afterwards it may be. Errors: ErrNotFound.
//
// All its files have the SELinux label; "": their own.
func (r *roots) MountSnapshot(key, label string) (*os.File, error) {
	file, err := r.mountSnapshot(key, nil, label)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot %s: %w", key, err)
	}
	return file, nil
}

func (r *roots) mountSnapshot(key string, users *os.File, fileLabel string) (*os.File, error) {
	snap, err := r.snapshotter.snapshot(key)
	if err != nil {
		return nil, err
	}
	lowers, release, err := r.lowers(snap.Layers)
	if err != nil {
		return nil, err
	}
	defer release()
	dir := r.snapshotDir(key)
	if snap.View && fileLabel == "" {
		return r.mountView(lowers, users)
	}
	o := overlay.Options{Users: users, Base: r.root, Label: fileLabel}
	if snap.View {
		o.Lowers = append(lowers, overlay.Lower{Path: filepath.Join(dir, nothing)})
		return r.mounter.Mount(o)
	}
	if err := label(filepath.Join(dir, "fs"), fileLabel); err != nil {
		return nil, err
	}
	o.Lowers = append(lowers, overlay.Lower{Path: filepath.Join(r.root, mountpoints)})
	o.Upper, o.Work, o.Volatile = filepath.Join(dir, "fs"), filepath.Join(dir, "work"), true
	return r.mounter.Mount(o)
}

// label gives the root of a writable layer an SELinux label, which what is made there inherits: the kernel asks for
// a file's own beside its mount's. A file system without labels is a success.
func label(dir, label string) error {
	if label == "" {
		return nil
	}
	if err := unix.Lsetxattr(dir, "security.selinux", []byte(label), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("label %s: %w", dir, err)
	}
	return nil
}

// snapshot finds one that is ready.
func (sn *snapshotter) snapshot(key string) (*snapshot, error) {
	sn.mu.Lock()
	snap := sn.snapshots[key]
	sn.mu.Unlock()
	if snap == nil {
		return nil, fmt.Errorf("snapshot: %w", ErrNotFound)
	}
	<-snap.ready // soon: its making waits for nobody
	return snap, snap.err
}

// MountImage gives an image's files as a detached read-only mount, which the caller closes. The image must stay as long as the mount is
// used. Errors: ErrNotFound.
func (r *roots) MountImage(imageID string) (*os.File, error) {
	img, err := r.Image(imageID)
	if err != nil {
		return nil, fmt.Errorf("mount image: %w", err)
	}
	lowers, release, err := r.lowers(img.layers)
	if err != nil {
		return nil, fmt.Errorf("mount image %s: %w", img.ID, err)
	}
	defer release()
	file, err := r.mountView(lowers, nil)
	if err != nil {
		return nil, fmt.Errorf("mount image %s: %w", img.ID, err)
	}
	return file, nil
}

// RemoveSnapshot removes a writable layer, and layers that only it needed. The files are deleted after it returned; a mount of it
// that still exists keeps what it has open. A snapshot that isn't there is a success.
func (sn *snapshotter) RemoveSnapshot(key string) error {
	if err := sn.removeSnapshot(key); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return nil
}

func (sn *snapshotter) removeSnapshot(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if snap, err := sn.snapshot(key); snap == nil || err != nil {
		return nil
	}
	if err := sn.bin.throw(sn.snapshotDir(key)); err != nil {
		return err
	}
	sn.mu.Lock()
	delete(sn.snapshots, key)
	orphans := len(sn.garbage()) > 0
	sn.mu.Unlock()
	if orphans { // only when its image is gone
		return sn.collect()
	}
	return nil
}

// Snapshots lists the keys.
func (sn *snapshotter) Snapshots() ([]string, error) {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	keys := make([]string, 0, len(sn.snapshots))
	for key := range sn.snapshots {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, nil
}

// readSnapshots finds the snapshots on the disk. What a power cut tore isn't one: it goes with the next sweep.
func (j *janitor) readSnapshots() (map[string]*snapshot, error) {
	entries, err := os.ReadDir(filepath.Join(j.root, "snapshots"))
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	close(ready)
	found := map[string]*snapshot{}
	for _, entry := range entries {
		key := entry.Name()
		snap := &snapshot{ready: ready}
		raw, err := os.ReadFile(filepath.Join(j.snapshotDir(key), "snapshot.json"))
		if err == nil {
			err = json.Unmarshal(raw, snap)
		}
		if err != nil || len(snap.Layers) == 0 {
			j.log.WithField("op", "read snapshot "+key).WithError(errors.Join(err, ErrCorrupt)).Warn("image store: a snapshot is torn and is dropped")
			continue
		}
		found[key] = snap
	}
	return found, nil
}
