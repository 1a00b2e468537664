package spec

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// mounts lists the container's mounts in the order in which they are made: the
// kernel's file systems, then volumes and the pod's files, parents before children.
func mounts(in Input) []specs.Mount {
	volumes := slices.Concat(podFiles(in), declaredMounts(in), volumeMounts(in.Container.Mounts))
	taken := map[string]bool{}
	for _, m := range in.Container.Mounts {
		taken[path.Clean(m.ContainerPath)] = true
	}
	var out []specs.Mount
	for _, m := range kernelMounts(in) {
		if taken[m.Destination] || taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue // the client's own mount is what it wants there
		}
		out = append(out, m)
	}
	// By depth, and otherwise as the client ordered them: containerd and CRI-O
	// sort so, and clients rely on it for a volume inside another.
	slices.SortStableFunc(volumes, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	return append(out, volumes...)
}

// depth is the number of elements of a clean absolute path.
func depth(p string) int { return strings.Count(strings.TrimSuffix(p, "/"), "/") }

// kernelMounts are the file systems that every container has.
func kernelMounts(in Input) []specs.Mount {
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		// Not 1777: fs.protected_regular would then refuse "> /dev/null" in a user namespace.
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		shmMount(in),
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		sysMount(in),
	}
	cgroup := specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime"}}
	if in.Container.Security.Privileged || in.Node.CgroupWritable {
		cgroup.Options = append(cgroup.Options, "rw")
	} else {
		cgroup.Options = append(cgroup.Options, "ro")
	}
	return append(out, cgroup)
}

// shmMount is the pod's /dev/shm, by descriptor, or the host's when the pod
// shares the host's IPC namespace.
func shmMount(in Input) specs.Mount {
	m := specs.Mount{Destination: "/dev/shm", Type: "bind", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
	if in.Pod.Security.Namespaces.IPC == NamespaceNode {
		m.Source = "/dev/shm"
	}
	return m
}

// sysMount is /sys. A user namespace on the host's network does not own its
// network namespace, and may not mount a fresh sysfs: it gets the host's.
func sysMount(in Input) specs.Mount {
	options := []string{"nosuid", "noexec", "nodev"}
	if in.Container.Security.Privileged {
		options = append(options, "rw")
	} else {
		options = append(options, "ro")
	}
	pod := in.Pod.Security.Namespaces
	if pod.OwnUser() != nil && pod.Network == NamespaceNode {
		// rro: the submounts of the host's /sys must not be writable either.
		return specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rslave", "nosuid", "noexec", "nodev", "rro"}}
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: options}
}

// podFiles are resolv.conf, hostname and hosts, as far as the client mounts
// nothing there (kubelet brings its own hosts).
func podFiles(in Input) []specs.Mount {
	access := "rw"
	if in.Container.Security.ReadonlyRootfs {
		access = "ro"
	}
	var out []specs.Mount
	for _, f := range []struct{ source, destination string }{
		{in.Hostname, "/etc/hostname"},
		{in.Hosts, "/etc/hosts"},
		{in.ResolvConf, "/etc/resolv.conf"},
	} {
		own := slices.ContainsFunc(in.Container.Mounts, func(m Mount) bool { return path.Clean(m.ContainerPath) == f.destination })
		if f.source != "" && !own {
			out = append(out, specs.Mount{Destination: f.destination, Type: "bind", Source: f.source, Options: []string{"rbind", "rprivate", access}})
		}
	}
	return out
}

// volumeMounts are the client's mounts.
func volumeMounts(volumes []Mount) []specs.Mount {
	out := make([]specs.Mount, 0, len(volumes))
	for _, v := range volumes {
		m := specs.Mount{
			Destination: path.Clean(v.ContainerPath),
			Type:        "bind",
			Source:      v.HostPath,
			Options:     []string{"rbind", propagationOption(v.Propagation)},
			UIDMappings: linuxMappings(v.UIDs),
			GIDMappings: linuxMappings(v.GIDs),
		}
		if v.Image != nil {
			m.Source = "" // by descriptor, and as the pod's users see it
			m.UIDMappings, m.GIDMappings = nil, nil
		}
		switch {
		case v.RecursiveReadonly:
			m.Options = append(m.Options, "rro")
		case v.Readonly:
			m.Options = append(m.Options, "ro")
		default:
			m.Options = append(m.Options, "rw")
		}
		m.Options = append(m.Options, v.Options...)
		out = append(out, m)
	}
	return out
}

// propagationOption is the mount option for p.
func propagationOption(p Propagation) string {
	switch p {
	case PropagationBidirectional:
		return "rshared"
	case PropagationHostToContainer:
		return "rslave"
	default:
		return "rprivate"
	}
}

// rootPropagation is that of the container's root: OCI runtimes refuse a volume
// that propagates more than the mount it stands on.
func rootPropagation(volumes []Mount) string {
	propagation := ""
	for _, v := range volumes {
		switch v.Propagation {
		case PropagationBidirectional:
			return "rshared"
		case PropagationHostToContainer:
			propagation = "rslave"
		case PropagationPrivate:
		}
	}
	return propagation
}

// DescriptorMounts lists the destinations of s that are attached from a
// descriptor which the caller of oci gives: bind mounts without a source.
func DescriptorMounts(s *specs.Spec) []string {
	var out []string
	for _, m := range s.Mounts {
		if m.Type == "bind" && m.Source == "" {
			out = append(out, m.Destination)
		}
	}
	return out
}
