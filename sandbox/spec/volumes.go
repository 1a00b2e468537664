package spec

import (
	"path"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// DeclaredVolumes lists, sorted, the paths in the container of the volumes that its image declares (image-spec,
// config.md, "Volumes") and the client mounts nothing at. Those that would cover what the runtime mounts
// itself, or all of the root, are left out.
func DeclaredVolumes(image *ocispec.ImageConfig, mounts []Mount) []string {
	if image == nil || len(image.Volumes) == 0 {
		return nil
	}
	taken := map[string]bool{"/": true}
	for _, m := range mounts {
		taken[path.Clean(m.ContainerPath)] = true
	}
	var out []string
	for declared := range image.Volumes {
		p := path.Clean("/" + declared)
		if !taken[p] && !within(p, "/proc") && !within(p, "/sys") && !within(p, "/dev") {
			taken[p] = true
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// within says whether a clean path is dir or below it.
func within(p, dir string) bool { return p == dir || len(p) > len(dir) && p[:len(dir)+1] == dir+"/" }

// declaredMounts are the volumes that the image declares: writable, whatever the root is.
func declaredMounts(in Input) []specs.Mount {
	var out []specs.Mount
	for i, p := range DeclaredVolumes(in.Image, in.Container.Mounts) {
		out = append(out, specs.Mount{Destination: p, Type: "bind", Source: in.VolumePaths[i], Options: []string{"rbind", "rprivate", "rw"}})
	}
	return out
}
