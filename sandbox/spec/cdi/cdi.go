// Package cdi finds what Container Device Interface devices add to a container, in the
// spec files of the node (https://github.com/cncf-tags/container-device-interface).
package cdi

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// ErrUnknown: no spec file of the node has a device.
var ErrUnknown = errors.New("no such CDI device")

// Names lists the devices that a container asks for, each once: those of CRI's field,
// and those of annotations that begin with cdi.k8s.io/, as device plugins set them
// before CRI had the field. An annotation that names none is an error.
func Names(c *spec.Container) ([]string, error) {
	names := slices.Clone(c.CDIDevices)
	for _, key := range slices.Sorted(maps.Keys(c.Annotations)) {
		_, more, err := cdi.ParseAnnotations(map[string]string{key: c.Annotations[key]})
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", key, err)
		}
		names = append(names, more...)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(n string) bool {
		again := seen[n]
		seen[n] = true
		return again
	}), nil
}

// Resolve reads the spec files in dirs, those of later ones counting over those of
// earlier ones, and returns what the devices add: a Spec with nothing else in it. A
// device whose owner is left open has none there. userNamespace says that mounts are
// to be seen through the container's mapping of ids.
//
// Errors: ErrUnknown, with what is wrong with the files if there is anything; a device
// node that the node has not; edits that berth can't make.
func Resolve(dirs, names []string, userNamespace bool) (*specs.Spec, error) {
	// Read anew each time: few containers have such devices, and the files are the truth.
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, fmt.Errorf("read CDI specs: %w", err)
	}
	out := &specs.Spec{}
	if userNamespace {
		out.Linux = &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}}}
	}
	unknown, err := cache.InjectDevices(out, names...)
	if len(unknown) > 0 {
		return nil, fmt.Errorf("%w as %s in %s%s", ErrUnknown, strings.Join(unknown, ", "), strings.Join(dirs, ", "), broken(cache))
	}
	if err != nil {
		return nil, fmt.Errorf("add CDI devices: %w", err)
	}
	if out.Linux != nil {
		out.Linux.Namespaces = nil
		if len(out.Linux.NetDevices) > 0 {
			return nil, errors.New("add CDI devices: network devices are not supported")
		}
		if out.Linux.IntelRdt != nil {
			return nil, errors.New("add CDI devices: resctrl groups (intelRdt) are not supported")
		}
	}
	return out, nil
}

// broken says which spec files can't be read: one of them might have the device.
func broken(cache *cdi.Cache) string {
	all := cache.GetErrors()
	var out strings.Builder
	for _, path := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&out, "; %s: %v", path, errors.Join(all[path]...))
	}
	return out.String()
}
