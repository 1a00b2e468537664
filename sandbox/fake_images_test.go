package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berth-runtime/berth/imagestore"
)

type fakeImages struct{ *daemon }

var fakeImage = &imagestore.Image{ID: "sha256:1234", Tags: []string{"docker.io/library/web:1"}, Digests: []string{"docker.io/library/web@sha256:5678"}}

func (i fakeImages) Image(ref string) (*imagestore.Image, error) {
	if ref != fakeImage.ID && !slices.Contains(fakeImage.Tags, ref) {
		return nil, fmt.Errorf("find image %s: %w", ref, imagestore.ErrNotFound)
	}
	return fakeImage, nil
}

// ExpectSnapshot is no operation: it comes when it may.
func (i fakeImages) ExpectSnapshot() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expected++
	return errFault // which does nobody harm
}

func (i fakeImages) PrepareSnapshot(_ context.Context, key, _ string) error {
	return i.do("prepare snapshot", func() { i.snapshots[key] = true })
}

func (i fakeImages) MountSnapshot(string, string) (*os.File, error) {
	if err := i.at("mount snapshot"); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(i.dir, "rootfs"))
}

func (i fakeImages) PrepareMapped(_ context.Context, key, _ string, _ imagestore.IDMap) error {
	return i.do("prepare snapshot", func() { i.snapshots[key] = true })
}

func (i fakeImages) PrepareView(_ context.Context, key, _ string) error {
	return i.do("prepare view", func() { i.snapshots[key] = true })
}

func (i fakeImages) MountMapped(key string, _ *os.File, label string) (*os.File, error) {
	return i.MountSnapshot(key, label)
}

func (i fakeImages) CheckMapping(*os.File) error { return i.at("check mapping") }

func (i fakeImages) CopyVolume(string, int, *os.File, string) error { return i.at("copy volume") }

func (i fakeImages) VolumePath(key string, number int) string {
	return filepath.Join(i.dir, fmt.Sprint(key, number))
}

func (i fakeImages) WriteChanges(_ context.Context, _ string, w io.Writer) error {
	_, err := io.WriteString(w, "changes")
	return errors.Join(err, i.at("write changes"))
}

func (i fakeImages) ApplyChanges(context.Context, string, string) error { return i.at("apply changes") }

func (i fakeImages) RemoveSnapshot(key string) error {
	return i.do("remove snapshot", func() { delete(i.snapshots, key) })
}

func (i fakeImages) Mountpoint() string { return i.dir }

func (i fakeImages) SnapshotUsage(key string) (imagestore.SnapshotUsage, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.snapshots[key] {
		return imagestore.SnapshotUsage{}, imagestore.ErrNotFound
	}
	return imagestore.SnapshotUsage{Bytes: 4096, Inodes: 3, At: time.Now()}, nil
}

func (i fakeImages) Snapshots() (out []string, err error) {
	err = i.do("list snapshots", func() { out = slices.Collect(maps.Keys(i.snapshots)) })
	return out, err
}
