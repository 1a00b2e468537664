package sandbox

import (
	"context"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// prepareRoot makes the writable layer of a container; it may be repeated.
func (m *Manager) prepareRoot(ctx context.Context, c *container) error {
	if user := c.pod.config.Security.Namespaces.OwnUser(); user != nil {
		ids := imagestore.IDMap{UIDs: idRanges(user.UIDs), GIDs: idRanges(user.GIDs)}
		return m.parts.Images.PrepareMapped(ctx, c.id, c.record.Image.ID, ids)
	}
	return m.parts.Images.PrepareSnapshot(ctx, c.id, c.record.Image.ID)
}

func idRanges(mappings []spec.IDMapping) []imagestore.IDRange {
	var out []imagestore.IDRange
	for _, m := range mappings {
		out = append(out, imagestore.IDRange{Inside: m.ContainerID, Outside: m.HostID, Size: m.Length})
	}
	return out
}

// copyVolumes makes the volumes that the image declares, before anything else can change what it has there.
func (m *Manager) copyVolumes(c *container) error {
	for i, p := range spec.DeclaredVolumes(&c.record.Image.Config, c.config.Mounts) {
		if err := m.parts.Images.CopyVolume(c.id, i, c.root, p); err != nil {
			return err
		}
	}
	return nil
}

// mountRoot mounts a container's root file system, for one launch.
func (m *Manager) mountRoot(c *container) (*os.File, error) { return m.mountSnapshot(c.pod, c.id) }

// mountSnapshot mounts a snapshot as the users of the pod see it.
func (m *Manager) mountSnapshot(p *pod, key string) (*os.File, error) {
	if p.config.Security.Namespaces.OwnUser() == nil {
		return m.parts.Images.MountSnapshot(key)
	}
	users := p.namespaces[specs.UserNamespace]
	if users == nil {
		return nil, fmt.Errorf("mount snapshot %s: pod %s has no user namespace any more: %w", key, p.id, ErrState)
	}
	return m.parts.Images.MountMapped(key, users)
}
