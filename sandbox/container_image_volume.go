package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// imageVolume is the number of the mount with an image volume at a destination, -1 when there is none.
func imageVolume(config *spec.Container, destination string) int {
	for i, v := range config.Mounts {
		if v.Image != nil && path.Clean(v.ContainerPath) == destination {
			return i
		}
	}
	return -1
}

// viewKey names what keeps the layers of a container's i-th mount.
func viewKey(c *container, i int) string { return fmt.Sprintf("%s-mount-%d", c.id, i) }

// prepareImageVolumes makes the views of images that a container has as volumes, from when on they may be
// removed. A mistake in the configuration is told now, and not by the start.
func (r *containerCreate) prepareImageVolumes() step {
	return step{
		name: "prepare image volumes",
		do: func(ctx context.Context) error {
			for i, v := range r.c.config.Mounts {
				if v.Image == nil {
					continue
				}
				if err := r.containers.roots.prepareImageVolume(ctx, r.c, i); err != nil {
					return fmt.Errorf("%w: image %s on %s: %w", ErrImageVolume, v.Image.Image, v.ContainerPath, err)
				}
			}
			return nil
		},
		undo: func(context.Context) error { return r.containers.roots.removeImageVolumes(r.c) },
	}
}

func (rs *roots) prepareImageVolume(ctx context.Context, c *container, i int) error {
	image, err := rs.parts.Images.Image(c.config.Mounts[i].Image.Image)
	if err != nil {
		return err
	}
	if err := rs.parts.Images.PrepareView(ctx, viewKey(c, i), image.ID); err != nil {
		return err
	}
	f, err := rs.mountImageVolume(c, i)
	if err != nil {
		return err
	}
	return f.Close()
}

// mountImageVolume mounts the image of a container's i-th mount, or what the mount asks for of it, for the time
// of the start. The caller closes the file.
func (rs *roots) mountImageVolume(c *container, i int) (*os.File, error) {
	f, err := rs.mountSnapshot(c, viewKey(c, i))
	if err != nil {
		return nil, err
	}
	name := c.config.Mounts[i].ImageSubPath
	if name == "" {
		return f, nil
	}
	defer f.Close()
	below, err := rs.host.below(f, name)
	if err != nil {
		return nil, fmt.Errorf("image_sub_path %q: %w", name, err)
	}
	return below, nil
}

// removeImageVolumes lets go of the images.
func (rs *roots) removeImageVolumes(c *container) error {
	var errs []error
	for i, v := range c.config.Mounts {
		if v.Image != nil {
			errs = append(errs, rs.parts.Images.RemoveSnapshot(viewKey(c, i)))
		}
	}
	return errors.Join(errs...)
}

// below mounts what is at a path below a mount, a directory or a regular file; symlinks lead nowhere but into
// the mount.
func (l *linux) below(root *os.File, name string) (*os.File, error) {
	fd, err := openat2(int(root.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	at := os.NewFile(uintptr(fd), name)
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return nil, errors.New("neither a directory nor a file")
	}
	return mount.Below(root, at)
}
