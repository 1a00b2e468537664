package spec

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// validateMounts checks each volume, and that no two of which one is an image
// go to the same place: oci attaches images by their destination.
func validateMounts(mounts []Mount) error {
	seen := map[string]bool{} // destination → an image is there
	for i, m := range mounts {
		field := index("mounts", i)
		if err := m.validate(field); err != nil {
			return err
		}
		destination := path.Clean(m.ContainerPath)
		image, twice := seen[destination]
		if twice && (image || m.Image != nil) {
			return invalid(field+".container_path", m.ContainerPath, "an image volume must have the path to itself")
		}
		seen[destination] = image || m.Image != nil
	}
	return nil
}

func (m *Mount) validate(field string) error {
	return firstError(
		func() error { return m.validateDestination(field + ".container_path") },
		func() error { return m.validateSource(field) },
		func() error { return m.validateAccess(field) },
		func() error { return m.validateIDs(field) },
	)
}

// maskableProc are the files below /proc that a volume may cover: those by
// which lxcfs shows a container its own limits. Anything else there could fake
// what the runtime itself reads or writes (CVE-2019-16884, CVE-2019-19921).
var maskableProc = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg", "/proc/slabinfo",
	"/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}

func (m *Mount) validateDestination(field string) error {
	if err := validateAbsolute(field, m.ContainerPath); err != nil {
		return err
	}
	p := path.Clean(m.ContainerPath)
	switch {
	case p == "/":
		return invalid(field, m.ContainerPath, "must not be the root")
	case p == "/proc" && (m.Image != nil || path.Clean(m.HostPath) != "/proc"):
		return invalid(field, m.ContainerPath, "only the host's /proc may be mounted there")
	case strings.HasPrefix(p, "/proc/") && !slices.Contains(maskableProc, p):
		return invalid(field, m.ContainerPath, "below /proc, only these may be mounted on: %s", strings.Join(maskableProc, " "))
	}
	return nil
}

func (m *Mount) validateSource(field string) error {
	if m.Image == nil {
		// image_sub_path has no meaning then, and any value: kubelet sets it to the subPath of whatever volume.
		if m.HostPath == "" {
			return invalid(field+".host_path", "", "is missing")
		}
		return validateAbsolute(field+".host_path", m.HostPath)
	}
	if m.HostPath != "" {
		return invalid(field+".host_path", m.HostPath, "must be empty when image is set")
	}
	if m.Image.Image == "" {
		return invalid(field+".image.image", "", "is missing")
	}
	if m.ImageSubPath != "" && (!filepath.IsLocal(m.ImageSubPath) || strings.ContainsAny(m.ImageSubPath, "\x00\n")) {
		return invalid(field+".image_sub_path", m.ImageSubPath, "must be a path inside the image")
	}
	return nil
}

func (m *Mount) validateAccess(field string) error {
	if p := m.Propagation; p != PropagationPrivate && p != PropagationHostToContainer && p != PropagationBidirectional {
		return invalid(field+".propagation", p, "must be PRIVATE, HOST_TO_CONTAINER or BIDIRECTIONAL")
	}
	if m.Image != nil && !m.Readonly {
		return invalid(field+".readonly", m.Readonly, "an image volume must be readonly")
	}
	if m.Image != nil && m.Propagation != PropagationPrivate {
		return invalid(field+".propagation", m.Propagation, "an image volume must be PRIVATE")
	}
	if m.RecursiveReadonly && !m.Readonly {
		return invalid(field+".recursive_read_only", m.RecursiveReadonly, "needs readonly")
	}
	if m.RecursiveReadonly && m.Propagation != PropagationPrivate {
		return invalid(field+".recursive_read_only", m.RecursiveReadonly, "needs propagation PRIVATE")
	}
	for i, option := range m.Options {
		if option != "noexec" && option != "nodev" && option != "nosuid" {
			return invalid(index(field+".mount_options", i), option, "must be noexec, nodev or nosuid")
		}
	}
	return nil
}

func (m *Mount) validateIDs(field string) error {
	if (len(m.UIDs) == 0) != (len(m.GIDs) == 0) {
		return invalid(field+".uidMappings", m.UIDs, "and gidMappings must be set together")
	}
	if err := validateMappings(field+".uidMappings", m.UIDs); err != nil {
		return err
	}
	return validateMappings(field+".gidMappings", m.GIDs)
}
