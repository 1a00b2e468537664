package sandbox

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// mounts are the detached mounts that the container's Spec leaves to descriptors:
// the pod's /dev/shm, and image volumes.
func (s *start) mounts() (map[string]*os.File, error) {
	out := map[string]*os.File{}
	for _, destination := range spec.DescriptorMounts(s.spec) {
		if v := imageVolume(s.c.config, destination); v != nil {
			f, err := s.mountImage(v)
			if err != nil {
				return nil, fmt.Errorf("image volume on %s: %w", destination, err)
			}
			out[destination] = f
			continue
		}
		if s.c.pod.shm == nil {
			return nil, fmt.Errorf("mount on %s: pod %s has nothing for it", destination, s.c.pod.id)
		}
		out[destination] = s.c.pod.shm
	}
	return out, nil
}

// imageVolume is the image volume at a destination, nil when there is none.
func imageVolume(config *spec.Container, destination string) *spec.Mount {
	for i, v := range config.Mounts {
		if v.Image != nil && path.Clean(v.ContainerPath) == destination {
			return &config.Mounts[i]
		}
	}
	return nil
}

// mountImage mounts an image, or a directory of one, for the time of the start.
func (s *start) mountImage(v *spec.Mount) (*os.File, error) {
	image, err := s.m.parts.Images.Image(v.Image.Image)
	if err != nil {
		return nil, err
	}
	f, err := s.m.parts.Images.MountImage(image.ID)
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, f)
	if v.ImageSubPath == "" {
		return f, nil
	}
	below, err := openDirectory(f, v.ImageSubPath)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", v.ImageSubPath, err)
	}
	s.files = append(s.files, below)
	return below, nil
}

// openDirectory opens a directory below a mount; symlinks lead nowhere but into it.
func openDirectory(root *os.File, name string) (*os.File, error) {
	fd, err := openat2(int(root.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
