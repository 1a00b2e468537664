package imagestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/overlay"
)

// IDRange maps Size ids from Inside on, as images and containers have them, to those from Outside on, as the host has them.
type IDRange struct{ Inside, Outside, Size uint32 }

// IDMap is the mapping of a user namespace.
type IDMap struct{ UIDs, GIDs []IDRange }

// outside is the host's id for one of an image. One that isn't mapped becomes root's, whose is what the mapping leaves over.
func outside(ranges []IDRange, id uint32) uint32 {
	var root uint32
	for _, r := range ranges {
		if id >= r.Inside && id-r.Inside < r.Size {
			return r.Outside + (id - r.Inside)
		}
		if r.Inside == 0 {
			root = r.Outside
		}
	}
	return root
}

// PrepareMapped is PrepareSnapshot for a container in a user namespace: its mount must be got by MountMapped, and what the container
// writes belongs, on the disk, to the host's ids.
func (sn *snapshotter) PrepareMapped(ctx context.Context, key, imageID string, ids IDMap) error {
	return sn.prepare(ctx, key, imageID, func(snap *snapshot) { snap.ids = &ids })
}

// PrepareView makes a read-only view, named key, of an image, whose layers stay as long as it does. Like a snapshot it is mounted by
// MountSnapshot or MountMapped, any number of times at once, and removed by RemoveSnapshot. A second call with the same image is a success.
// Errors: ErrInvalidKey, ErrNotFound, ErrExists.
func (sn *snapshotter) PrepareView(ctx context.Context, key, imageID string) error {
	return sn.prepare(ctx, key, imageID, func(snap *snapshot) { snap.View = true })
}

// MountMapped is MountSnapshot in which the image's files belong to the users of a user namespace, by its mapping. The number of mounts is
// the same for any number of layers. It needs Linux 5.19, and a file system below the store that can be idmapped.
func (r *roots) MountMapped(key string, users *os.File, label string) (*os.File, error) {
	file, err := r.mountSnapshot(key, users, label)
	if err != nil {
		return nil, fmt.Errorf("mount snapshot %s in a user namespace: %w", key, err)
	}
	return file, nil
}

// CheckMapping tries whether images can be mounted in a user namespace: whether the kernel, and the file system that the store is on, let it.
// It mounts what the store has anyhow, and lets go of it.
func (r *roots) CheckMapping(users *os.File) error {
	file, err := r.mountView(overlay.Directories(filepath.Join(r.root, "layers"), filepath.Join(r.root, mountpoints)), users)
	if err != nil {
		return fmt.Errorf("map a mount of the image store: %w", err)
	}
	return file.Close()
}

// mountView mounts layers read-only.
func (r *roots) mountView(lowers []overlay.Lower, users *os.File) (*os.File, error) {
	if len(lowers) == 1 { // overlayfs wants two
		return r.mounter.Bind(lowers[0], users)
	}
	return r.mounter.Mount(overlay.Options{Lowers: lowers, Users: users, Base: r.root})
}

// give makes the root of a writable layer belong to the host's ids of its owner.
func give(dir string, ids *IDMap) error {
	if ids == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := os.Lchown(dir, int(outside(ids.UIDs, st.Uid)), int(outside(ids.GIDs, st.Gid))); err != nil {
		return err
	}
	return os.Chmod(dir, os.FileMode(st.Mode&0o777)|special(st.Mode)) // a change of owner takes set-id bits away
}

// special are a mode's bits above the permissions, in Go's words.
func special(mode uint32) (out os.FileMode) {
	for bit, name := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if mode&bit != 0 {
			out |= name
		}
	}
	return out
}
