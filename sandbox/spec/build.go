package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Input is everything that Build makes a Spec from. Pod, Container and Node are
// needed; Container and Pod must have passed Validate.
type Input struct {
	Pod         *Pod
	PodID       string
	Container   *Container
	ContainerID string
	Image       *ocispec.ImageConfig // nil: an image without configuration
	User        User                 // from ResolveUser
	Node        Node
	CgroupPath  string // of the container, from the hierarchy's root

	// Host paths of the pod's files, bound at /etc/resolv.conf, /etc/hostname
	// and /etc/hosts unless the client mounts something there; "": none.
	ResolvConf, Hostname, Hosts string

	// VolumePaths are the host's paths of DeclaredVolumes, in their order.
	VolumePaths []string

	Seccomp         *specs.LinuxSeccomp // already chosen; nil: unconfined. Not used for a privileged container
	AppArmorProfile string              // already chosen; "": none
	ProcessLabel    string              // SELinux, already chosen; "": none
	MountLabel      string              // SELinux, already chosen; "": none

	// Devices are what Container.Devices name, as hostdev.Lookup found them.
	Devices []HostDevice
	// Edits are what CDI devices add (cdi.Resolve); nil: nothing.
	Edits *specs.Spec
	// HostDevices are all devices of the host (hostdev.All), for a privileged container.
	HostDevices []HostDevice
}

// Node holds what every container of the node gets or is limited by. Its zero
// value means the defaults.
type Node struct {
	Hostname            string              // HOSTNAME where the pod has none of its own
	Capabilities        []string            // what the daemon has; a container never gets others. nil: no bound
	DefaultCapabilities []string            // nil: DefaultCapabilities()
	Rlimits             []specs.POSIXRlimit // nil: those of the keeper
	PidsLimit           int64               // processes a container may have; 0: no limit
	CgroupWritable      bool                // mount /sys/fs/cgroup writable in unprivileged containers too
}

// ErrNoCommand says that neither the client nor the image names a program to run.
var ErrNoCommand = errors.New("no command: neither the container nor its image has one")

// Build makes the complete runtime-spec Spec of a container. It is pure; its
// errors are ErrNoCommand and *FieldError.
//
// What it leaves to oci, by convention:
//   - Spec.Linux.Namespaces lists kinds with an empty Path; which of them are
//     joined rather than new, the caller says in oci.Container.Namespaces
//     (JoinedNamespaces says which it must be).
//   - A mount of Type "bind" with an empty Source is attached from a descriptor:
//     the caller gives it in oci.Container.Mounts by its destination
//     (DescriptorMounts lists them): the pod's /dev/shm, and image volumes.
//   - Spec.Root.Path is "rootfs": the root too is a descriptor.
//   - Spec.Hostname and Linux.Sysctl stay empty: both belong to the pod's
//     namespaces, which are made before any container.
func Build(in Input) (*specs.Spec, error) {
	process, err := buildProcess(in)
	if err != nil {
		return nil, err
	}
	c := in.Container
	linux := &specs.Linux{
		CgroupsPath:       in.CgroupPath,
		Namespaces:        namespaces(in),
		Resources:         containerResources(in),
		Devices:           deviceNodes(in),
		RootfsPropagation: rootPropagation(c.Mounts),
		MountLabel:        in.MountLabel,
	}
	if user := in.Pod.Security.Namespaces.OwnUser(); user != nil {
		linux.UIDMappings = linuxMappings(user.UIDs)
		linux.GIDMappings = linuxMappings(user.GIDs)
	}
	if !c.Security.Privileged {
		linux.Seccomp = in.Seccomp
		linux.MaskedPaths = slices.Clone(c.Security.MaskedPaths)
		linux.ReadonlyPaths = slices.Clone(c.Security.ReadonlyPaths)
	}
	out := &specs.Spec{
		Version:     specs.Version,
		Process:     process,
		Root:        &specs.Root{Path: "rootfs", Readonly: c.Security.ReadonlyRootfs},
		Mounts:      mounts(in),
		Annotations: annotations(in),
		Linux:       linux,
	}
	inject(out, in.Edits)
	return out, nil
}

// annotations are the container's, and those by which foreign runtimes (gVisor,
// Kata) learn what they run: the names that containerd's CRI gives them.
func annotations(in Input) map[string]string {
	const prefix = "io.kubernetes.cri."
	out := map[string]string{
		prefix + "container-type":    "container",
		prefix + "container-name":    in.Container.Metadata.Name,
		prefix + "image-name":        imageName(in.Container.Image),
		prefix + "sandbox-id":        in.PodID,
		prefix + "sandbox-name":      in.Pod.Metadata.Name,
		prefix + "sandbox-namespace": in.Pod.Metadata.Namespace,
		prefix + "sandbox-uid":       in.Pod.Metadata.UID,
	}
	maps.Copy(out, in.Container.Annotations)
	return out
}

// imageName is the name that the user wrote, as kubelet gives images by id.
func imageName(ref ImageRef) string {
	if ref.UserSpecifiedImage != "" {
		return ref.UserSpecifiedImage
	}
	return ref.Image
}

// namespaces lists the kinds of namespace that a container does not share with
// the host.
func namespaces(in Input) []specs.LinuxNamespace {
	n := in.Container.Security.Namespaces
	pod := in.Pod.Security.Namespaces
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(kind specs.LinuxNamespaceType) { out = append(out, specs.LinuxNamespace{Type: kind}) }
	if pod.OwnUser() != nil {
		add(specs.UserNamespace)
	}
	if pod.Network != NamespaceNode {
		// A pod on the host's network has the host's name too.
		add(specs.NetworkNamespace)
		add(specs.UTSNamespace)
	}
	if pod.IPC != NamespaceNode {
		add(specs.IPCNamespace)
	}
	if n.PID != NamespaceNode {
		add(specs.PIDNamespace)
	}
	if !in.Container.Security.Privileged {
		// A privileged container manages the host's groups, as elsewhere.
		add(specs.CgroupNamespace)
	}
	return out
}

// JoinedNamespaces lists the kinds of s's namespaces that a container shares
// with its pod (or, for the PID namespace, with a container): the caller of oci
// must give a descriptor for each. The others are made new.
func JoinedNamespaces(s *specs.Spec, container *Container) []specs.LinuxNamespaceType {
	var out []specs.LinuxNamespaceType
	for _, ns := range s.Linux.Namespaces {
		switch ns.Type {
		case specs.MountNamespace, specs.CgroupNamespace:
		case specs.PIDNamespace:
			if pid := container.Security.Namespaces.PID; pid == NamespacePod || pid == NamespaceTarget {
				out = append(out, ns.Type)
			}
		default:
			out = append(out, ns.Type)
		}
	}
	return out
}

// OwnUser is the user namespace when it is not the host's, else nil.
func (n Namespaces) OwnUser() *UserNamespace {
	if n.User == nil || n.User.Mode != NamespacePod {
		return nil
	}
	return n.User
}

// linuxMappings are mappings in OCI's words.
func linuxMappings(mappings []IDMapping) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range mappings {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Length})
	}
	return out
}

// String is the mapping as in /proc/PID/uid_map.
func (m IDMapping) String() string {
	return fmt.Sprintf("%d %d %d", m.ContainerID, m.HostID, m.Length)
}
