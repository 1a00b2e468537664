package sandbox

import (
	"context"
	"fmt"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// mountUsers finds, by destination, the user namespaces whose mappings mounts of the container have: the
// pod's own, which kubelet gives to every volume, or one that is made for the mount.
func (s *start) mountUsers(ctx context.Context) (map[string]*os.File, error) {
	out := map[string]*os.File{}
	made := map[string]*os.File{}
	for _, m := range s.spec.Mounts {
		if len(m.UIDMappings)+len(m.GIDMappings) == 0 {
			continue
		}
		if slices.Equal(m.UIDMappings, s.spec.Linux.UIDMappings) && slices.Equal(m.GIDMappings, s.spec.Linux.GIDMappings) {
			out[m.Destination] = s.c.pod.namespaces[specs.UserNamespace]
			continue
		}
		key := fmt.Sprint(m.UIDMappings, m.GIDMappings)
		if made[key] == nil {
			f, err := s.containers.namespaces.userNamespace(ctx, m.UIDMappings, m.GIDMappings)
			if err != nil {
				return nil, fmt.Errorf("mappings of the mount on %s: %w", m.Destination, err)
			}
			s.files = append(s.files, f)
			made[key] = f
		}
		out[m.Destination] = made[key]
	}
	return out, nil
}

// checkMapped refuses a user that the pod's user namespace has no number for.
func checkMapped(pod *spec.Pod, user *spec.User) error {
	own := pod.Security.Namespaces.OwnUser()
	if own == nil {
		return nil
	}
	const field = "linux.security_context."
	if !mapped(own.UIDs, user.UID) {
		return &spec.FieldError{Field: field + "run_as_user", Value: fmt.Sprint(user.UID), Rule: "is not mapped in the pod's user namespace, which has " + ranges(own.UIDs)}
	}
	for i, g := range append([]uint32{user.GID}, user.Groups...) {
		if mapped(own.GIDs, g) {
			continue
		}
		name := "run_as_group"
		if i > 0 {
			name = "supplemental_groups"
		}
		return &spec.FieldError{Field: field + name, Value: fmt.Sprint(g), Rule: "is not mapped in the pod's user namespace, which has " + ranges(own.GIDs)}
	}
	return nil
}

func mapped(mappings []spec.IDMapping, id uint32) bool {
	return slices.ContainsFunc(mappings, func(m spec.IDMapping) bool { return id >= m.ContainerID && id-m.ContainerID < m.Length })
}

func ranges(mappings []spec.IDMapping) string {
	out := ""
	for i, m := range mappings {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%d to %d", m.ContainerID, m.ContainerID+m.Length-1)
	}
	return out
}
