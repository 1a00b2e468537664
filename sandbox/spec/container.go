package spec

// Container is what a client asks of a container. It mirrors CRI's
// ContainerConfig field by field; records on disk hold it.
type Container struct {
	Metadata    ContainerMetadata `json:"metadata"`
	Image       ImageRef          `json:"image"`
	Command     []string          `json:"command,omitempty"` // replaces the image's Entrypoint, and then its Cmd too
	Args        []string          `json:"args,omitempty"`    // replaces the image's Cmd
	WorkingDir  string            `json:"workingDir,omitempty"`
	Envs        []Env             `json:"envs,omitempty"`
	Mounts      []Mount           `json:"mounts,omitempty"`
	Devices     []Device          `json:"devices,omitempty"`
	CDIDevices  []string          `json:"cdiDevices,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	LogPath     string            `json:"logPath,omitempty"` // below Pod.LogDirectory
	Stdin       bool              `json:"stdin,omitempty"`
	StdinOnce   bool              `json:"stdinOnce,omitempty"`
	TTY         bool              `json:"tty,omitempty"`
	StopSignal  int               `json:"stopSignal,omitempty"` // 0: the image's, or SIGTERM
	Resources   *Resources        `json:"resources,omitempty"`
	Security    Security          `json:"security"`
}

// ContainerMetadata names a container in its pod; a retried CreateContainer
// carries it again.
type ContainerMetadata struct {
	Name    string `json:"name"`
	Attempt uint32 `json:"attempt"`
}

// ImageRef names an image as the client did.
type ImageRef struct {
	Image              string            `json:"image"` // an id, or a reference
	UserSpecifiedImage string            `json:"userSpecifiedImage,omitempty"`
	RuntimeHandler     string            `json:"runtimeHandler,omitempty"`
	Annotations        map[string]string `json:"annotations,omitempty"`
}

// Env is one environment variable. Value may hold any bytes but NUL.
type Env struct {
	Key   string `json:"key"`
	Value []byte `json:"value"` // base64 in JSON, so that no byte is lost
}

// Mount is one volume of a container: a host path, or an image when Image is set.
type Mount struct {
	ContainerPath     string      `json:"containerPath"`
	HostPath          string      `json:"hostPath,omitempty"`
	Readonly          bool        `json:"readonly,omitempty"`
	RecursiveReadonly bool        `json:"recursiveReadonly,omitempty"`
	SELinuxRelabel    bool        `json:"selinuxRelabel,omitempty"`
	Propagation       Propagation `json:"propagation,omitempty"`
	UIDs              []IDMapping `json:"uids,omitempty"`
	GIDs              []IDMapping `json:"gids,omitempty"`
	Image             *ImageRef   `json:"image,omitempty"`
	ImageSubPath      string      `json:"imageSubPath,omitempty"`
	Options           []string    `json:"options,omitempty"` // noexec, nodev, nosuid
}

// Propagation is a volume's mount propagation.
type Propagation string

// The values of Propagation, as in CRI.
const (
	PropagationPrivate         Propagation = ""
	PropagationHostToContainer Propagation = "hostToContainer" // rslave
	PropagationBidirectional   Propagation = "bidirectional"   // rshared
)

// Device gives a container a device of the host, or a directory of them.
type Device struct {
	ContainerPath string `json:"containerPath"`
	HostPath      string `json:"hostPath"`
	Permissions   string `json:"permissions"` // of "rwm"
}

// Security holds a container's security settings.
type Security struct {
	Namespaces               Namespaces       `json:"namespaces"`
	CapabilitiesAdd          []string         `json:"capabilitiesAdd,omitempty"` // with or without CAP_; "ALL"
	CapabilitiesDrop         []string         `json:"capabilitiesDrop,omitempty"`
	CapabilitiesAmbient      []string         `json:"capabilitiesAmbient,omitempty"`
	Privileged               bool             `json:"privileged,omitempty"`
	SELinux                  *SELinux         `json:"selinux,omitempty"`
	RunAsUser                *int64           `json:"runAsUser,omitempty"`
	RunAsUsername            string           `json:"runAsUsername,omitempty"`
	RunAsGroup               *int64           `json:"runAsGroup,omitempty"`
	ReadonlyRootfs           bool             `json:"readonlyRootfs,omitempty"`
	SupplementalGroups       []int64          `json:"supplementalGroups,omitempty"`
	SupplementalGroupsPolicy GroupsPolicy     `json:"supplementalGroupsPolicy,omitempty"`
	NoNewPrivs               bool             `json:"noNewPrivs,omitempty"`
	MaskedPaths              []string         `json:"maskedPaths,omitempty"`   // exactly these; none: procMount Unmasked
	ReadonlyPaths            []string         `json:"readonlyPaths,omitempty"` // exactly these
	Seccomp                  *SecurityProfile `json:"seccomp,omitempty"`       // nil: unconfined
	AppArmor                 *SecurityProfile `json:"apparmor,omitempty"`      // nil: the runtime's default
}

// Resources are the limits of a container or pod, as CRI's
// LinuxContainerResources. Zero means "not set" everywhere.
type Resources struct {
	CPUPeriod   int64             `json:"cpuPeriod,omitempty"` // µs
	CPUQuota    int64             `json:"cpuQuota,omitempty"`  // µs a period; -1: no limit
	CPUShares   int64             `json:"cpuShares,omitempty"`
	MemoryLimit int64             `json:"memoryLimit,omitempty"` // bytes
	OOMScoreAdj int64             `json:"oomScoreAdj,omitempty"`
	CpusetCPUs  string            `json:"cpusetCPUs,omitempty"`
	CpusetMems  string            `json:"cpusetMems,omitempty"`
	Hugepages   []HugepageLimit   `json:"hugepages,omitempty"`
	Unified     map[string]string `json:"unified,omitempty"`         // cgroup v2 file → value
	MemorySwap  int64             `json:"memorySwapLimit,omitempty"` // bytes, memory and swap together
}

// HugepageLimit bounds the use of one huge page size.
type HugepageLimit struct {
	PageSize string `json:"pageSize"` // "2MB"
	Limit    uint64 `json:"limit"`    // bytes; 0 forbids them
}
