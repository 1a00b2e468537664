package spec

import "strings"

// Pod is what a client asks of a pod sandbox. It mirrors CRI's PodSandboxConfig
// field by field, but belongs to berth: it is what records on disk hold.
type Pod struct {
	Metadata       PodMetadata       `json:"metadata"`
	Hostname       string            `json:"hostname,omitempty"`
	LogDirectory   string            `json:"logDirectory,omitempty"`
	DNS            *DNS              `json:"dns,omitempty"` // nil: as the host
	PortMappings   []PortMapping     `json:"portMappings,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Annotations    map[string]string `json:"annotations,omitempty"`
	RuntimeHandler string            `json:"runtimeHandler,omitempty"` // "": the default handler
	CgroupParent   string            `json:"cgroupParent,omitempty"`   // always in cgroupfs syntax
	Sysctls        map[string]string `json:"sysctls,omitempty"`        // keys with dots
	Security       PodSecurity       `json:"security"`
	Overhead       *Resources        `json:"overhead,omitempty"`
	Resources      *Resources        `json:"resources,omitempty"`
}

// PodMetadata names a pod sandbox. All four fields together are the identity
// that a retried RunPodSandbox carries again.
type PodMetadata struct {
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Attempt   uint32 `json:"attempt"`
}

// DNS is the content of a pod's resolv.conf.
type DNS struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// PortMapping publishes one port of the pod on the host.
type PortMapping struct {
	Protocol      Protocol `json:"protocol"`
	ContainerPort int32    `json:"containerPort"`
	HostPort      int32    `json:"hostPort"` // 0: none
	HostIP        string   `json:"hostIP,omitempty"`
}

// Protocol is a transport protocol: "tcp", "udp" or "sctp".
type Protocol string

// The transport protocols that CRI knows.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// PodSecurity holds the security settings of the pod as a whole.
type PodSecurity struct {
	Namespaces               Namespaces       `json:"namespaces"`
	SELinux                  *SELinux         `json:"selinux,omitempty"`
	RunAsUser                *int64           `json:"runAsUser,omitempty"`
	RunAsGroup               *int64           `json:"runAsGroup,omitempty"`
	ReadonlyRootfs           bool             `json:"readonlyRootfs,omitempty"`
	SupplementalGroups       []int64          `json:"supplementalGroups,omitempty"`
	SupplementalGroupsPolicy GroupsPolicy     `json:"supplementalGroupsPolicy,omitempty"`
	Privileged               bool             `json:"privileged,omitempty"`
	Seccomp                  *SecurityProfile `json:"seccomp,omitempty"`
	AppArmor                 *SecurityProfile `json:"apparmor,omitempty"`
}

// NamespaceMode says whose namespace of a kind a process lives in.
type NamespaceMode string

// The values of NamespaceMode, as in CRI. The zero value is NamespacePod.
const (
	NamespacePod       NamespaceMode = ""          // shared by the pod's containers
	NamespaceContainer NamespaceMode = "container" // the container's own
	NamespaceNode      NamespaceMode = "node"      // the host's
	NamespaceTarget    NamespaceMode = "target"    // that of the container Namespaces.TargetID
)

// cri is CRI's word for m.
func (m NamespaceMode) cri() string {
	if m == NamespacePod {
		return "POD"
	}
	return strings.ToUpper(string(m))
}

// Namespaces chooses a process's namespaces.
type Namespaces struct {
	Network  NamespaceMode  `json:"network,omitempty"`
	PID      NamespaceMode  `json:"pid,omitempty"`
	IPC      NamespaceMode  `json:"ipc,omitempty"`
	TargetID string         `json:"targetID,omitempty"`
	User     *UserNamespace `json:"user,omitempty"` // nil: the host's
}

// UserNamespace maps a pod's users and groups to the host's. CRI allows one
// mapping of each kind, and it must map id 0.
type UserNamespace struct {
	Mode NamespaceMode `json:"mode,omitempty"` // NamespacePod, or NamespaceNode without mappings
	UIDs []IDMapping   `json:"uids"`
	GIDs []IDMapping   `json:"gids"`
}

// IDMapping maps Length ids from ContainerID on to those from HostID on.
type IDMapping struct {
	ContainerID uint32 `json:"containerID"`
	HostID      uint32 `json:"hostID"`
	Length      uint32 `json:"length"`
}

// GroupsPolicy says whether the image's /etc/group adds supplemental groups.
type GroupsPolicy string

// The values of GroupsPolicy.
const (
	GroupsMerge  GroupsPolicy = ""       // those asked for and those of the image
	GroupsStrict GroupsPolicy = "strict" // only those asked for
)

// SELinux is a process label, by its parts.
type SELinux struct {
	User  string `json:"user,omitempty"`
	Role  string `json:"role,omitempty"`
	Type  string `json:"type,omitempty"`
	Level string `json:"level,omitempty"`
}

// SecurityProfile chooses a seccomp or AppArmor profile.
type SecurityProfile struct {
	Kind ProfileKind `json:"kind"`
	// Localhost is the profile's path (seccomp) or name (AppArmor) when Kind is
	// ProfileLocalhost.
	Localhost string `json:"localhost,omitempty"`
}

// ProfileKind says where a security profile comes from.
type ProfileKind string

// The values of ProfileKind.
const (
	ProfileRuntimeDefault ProfileKind = "runtimeDefault"
	ProfileUnconfined     ProfileKind = "unconfined"
	ProfileLocalhost      ProfileKind = "localhost"
)
