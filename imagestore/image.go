package imagestore

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-runtime/berth/imagestore/registry"
)

// Image is what the store knows of an image. It is immutable: callers share it and must not write to it.
type Image struct {
	// ID is the digest of the image's configuration, "sha256:…": the same from every registry and in every answer.
	ID string
	// Tags are its names, "docker.io/library/busybox:1.36", sorted.
	Tags []string
	// Digests are the manifests or indexes it was pulled by, "docker.io/library/busybox@sha256:…", sorted.
	Digests []string
	// Size is what its layers take on the disk, in bytes; more than 0. Layers shared with other images are counted in each.
	Size uint64
	// Config is the image's configuration: command, environment, user, platform.
	Config ocispec.Image
	// Pinned images are not to be collected.
	Pinned bool
	// PulledAt is when the image last got a name.
	PulledAt time.Time

	layers []string // chain ids, the base first
}

// Auth is what a client has to show to a registry. It is shown to one host only: see its ServerAddress.
type Auth = registry.Auth

// Usage is what the store takes on the disk.
type Usage struct {
	// Mountpoint is a directory on the file system that the store is on.
	Mountpoint string
	Bytes      uint64
	Inodes     uint64
}
