package sandbox

import (
	"context"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// roots are the file systems that containers get of images: their own, and those of
// image volumes.
type roots struct{ *base }

// prepareRoot makes the writable layer of a container; it may be repeated.
func (rs *roots) prepareRoot(ctx context.Context, c *container) error {
	if user := c.pod.config.Security.Namespaces.OwnUser(); user != nil {
		ids := imagestore.IDMap{UIDs: idRanges(user.UIDs), GIDs: idRanges(user.GIDs)}
		return rs.parts.Images.PrepareMapped(ctx, c.id, c.record.Image.ID, ids)
	}
	return rs.parts.Images.PrepareSnapshot(ctx, c.id, c.record.Image.ID)
}

func idRanges(mappings []spec.IDMapping) []imagestore.IDRange {
	var out []imagestore.IDRange
	for _, m := range mappings {
		out = append(out, imagestore.IDRange{Inside: m.ContainerID, Outside: m.HostID, Size: m.Length})
	}
	return out
}

// copyVolumes makes the volumes that the image declares, before anything else can change what it has there.
func (rs *roots) copyVolumes(c *container) error {
	for i, p := range spec.DeclaredVolumes(&c.record.Image.Config, c.config.Mounts) {
		if err := rs.parts.Images.CopyVolume(c.id, i, c.root, p); err != nil {
			return err
		}
	}
	return nil
}

// mountRoot mounts a container's root file system, for one launch.
func (rs *roots) mountRoot(c *container) (*os.File, error) { return rs.mountSnapshot(c, c.id) }

// mountSnapshot mounts a snapshot as the users of a container's pod see it, and with the container's label.
func (rs *roots) mountSnapshot(c *container, key string) (*os.File, error) {
	p := c.pod
	labels, err := rs.containerLabels(p, c.config)
	if err != nil {
		return nil, err
	}
	if p.config.Security.Namespaces.OwnUser() == nil {
		return rs.parts.Images.MountSnapshot(key, labels.File)
	}
	users := p.namespaces[specs.UserNamespace]
	if users == nil {
		return nil, fmt.Errorf("mount snapshot %s: pod %s has no user namespace any more: %w", key, p.id, ErrState)
	}
	return rs.parts.Images.MountMapped(key, users, labels.File)
}
