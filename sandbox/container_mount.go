package sandbox

import (
	"fmt"
	"os"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// mounts are the detached mounts that the container's Spec leaves to descriptors:
// the pod's /dev/shm, and image volumes.
func (s *start) mounts() (map[string]*os.File, error) {
	out := map[string]*os.File{}
	for _, destination := range spec.DescriptorMounts(s.spec) {
		if i := imageVolume(s.c.config, destination); i >= 0 {
			f, err := s.containers.roots.mountImageVolume(s.c, i)
			if err != nil {
				return nil, fmt.Errorf("image volume on %s: %w", destination, err)
			}
			s.files = append(s.files, f)
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
