package spec

import (
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

	Seccomp         *specs.LinuxSeccomp // already chosen; nil: unconfined. Not used for a privileged container
	AppArmorProfile string              // already chosen; "": none. Not used for a privileged container
	ProcessLabel    string              // SELinux, already chosen; "": none
	MountLabel      string              // SELinux, already chosen; "": none

	// Devices are what Container.Devices name, as hostdev.Lookup found them.
	Devices []HostDevice
	// HostDevices are all devices of the host (hostdev.All), for a privileged container.
	HostDevices []HostDevice
}

// HostDevice is a device node and what a container may do with it.
type HostDevice struct {
	specs.LinuxDevice        // Path is that in the container
	Access            string // of "rwm"
}

// Node holds what every container of the node gets or is limited by. Its zero
// value means the defaults.
type Node struct {
	Hostname            string              // HOSTNAME of containers on the host's network
	Capabilities        []string            // what the daemon has; a container never gets others. nil: no bound
	DefaultCapabilities []string            // nil: DefaultCapabilities()
	Rlimits             []specs.POSIXRlimit // nil: those of the keeper
	PidsLimit           int64               // processes a container may have; 0: no limit
	CgroupWritable      bool                // mount /sys/fs/cgroup writable in unprivileged containers too
}

// Build makes the complete runtime-spec Spec of a container. It is pure.
//
// What it leaves to oci, by convention:
//   - Spec.Linux.Namespaces lists kinds with an empty Path; which of them are
//     joined rather than new, the caller says in oci.Container.Namespaces.
//   - A mount of Type "bind" with an empty Source is attached from a descriptor:
//     the caller gives it in oci.Container.Mounts by its destination
//     (DescriptorMounts lists them): the pod's /dev/shm, and image volumes.
//   - Spec.Root.Path is "rootfs": the root too is a descriptor.
func Build(in Input) (*specs.Spec, error) {
	return nil, nil
}

// DescriptorMounts lists the destinations of s that are attached from a
// descriptor which the caller of oci gives: bind mounts without a source.
func DescriptorMounts(s *specs.Spec) []string { return nil }

// ExecProcess is the process of an exec of cmd in a container that was built as
// container: its user, capabilities, environment and limits, with cmd as Args.
func ExecProcess(container *specs.Spec, cmd []string, tty bool) *specs.Process { return nil }

// Resources turns CRI's limits into OCI's, zero meaning "not set". nil gives an empty value.
func ToLinuxResources(r *Resources) *specs.LinuxResources { return nil }

// DefaultCapabilities are those of a container that asks for nothing.
func DefaultCapabilities() []string { return nil }

// StopSignal is the number of the signal that ends a container: config's when
// it is set, else the image's ("SIGTERM", "TERM", "15", "SIGRTMIN+3"), else SIGTERM.
func StopSignal(config int, image string) int { return 15 }
