package cni

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"
)

// defaultInterface is what kubelet and everybody else expect a pod's interface to be called.
const defaultInterface = "eth0"

// Attachment is a pod's place in the network: what Add sets up and Del releases.
type Attachment struct {
	ID           string // pod id: the CNI container id
	NetNS        string // path of the pod's network namespace; Del takes "" and paths that are gone
	PodName      string
	PodNamespace string
	PodUID       string
	Ports        []PortMapping
	Annotations  map[string]string
	Handler      string // the pod's runtime handler, "" for the default one
	CgroupPath   string // the pod's cgroup, for plugins with the capability cgroupPath
	DNS          DNS
}

// PortMapping is a port of the host that leads to a port of the pod.
type PortMapping struct {
	HostPort      int32  `json:"hostPort"` // 0: the mapping is not set up, it only tells of a port of the container
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol,omitempty"` // tcp, udp or sctp, in any case; "" is tcp
	HostIP        string `json:"hostIP,omitempty"`   // "" is every address of the host
}

// DNS is what the pod's resolv.conf will say, for plugins with the capability dns.
type DNS struct {
	Servers  []string
	Searches []string
	Options  []string
}

// Result is what a pod has got.
type Result struct {
	IPs []netip.Addr // addresses of the pod's default interface, the preferred first
	CNI types.Result // all that the plugins said, as libcni has it
}

func (a Attachment) validate() error {
	if err := utils.ValidateContainerID(a.ID); err != nil {
		return fmt.Errorf("%w: id %q: %w", ErrInvalid, a.ID, err)
	}
	for i, p := range a.Ports {
		if p.HostPort < 0 || p.HostPort > math.MaxUint16 || p.ContainerPort < 0 || p.ContainerPort > math.MaxUint16 {
			return fmt.Errorf("%w: port_mappings[%d]: %d to %d are not ports", ErrInvalid, i, p.HostPort, p.ContainerPort)
		}
		if p.HostIP != "" {
			if _, err := netip.ParseAddr(p.HostIP); err != nil {
				return fmt.Errorf("%w: port_mappings[%d].host_ip: %w", ErrInvalid, i, err)
			}
		}
	}
	return nil
}

// intent is what the attachment comes to in a network.
func (a Attachment) intent(n *network) (*intent, error) {
	list, err := n.json()
	if err != nil {
		return nil, fmt.Errorf("record attachment %s: %w", a.ID, err)
	}
	caps, err := a.capabilities()
	if err != nil {
		return nil, err
	}
	return &intent{
		ID: a.ID, IfName: defaultInterface, NetNS: a.NetNS, PodNamespace: a.PodNamespace, PodName: a.PodName,
		Network: n.list.Name, File: n.file, List: list, Args: a.args(), Capabilities: caps, Ports: a.hostPorts(),
	}, nil
}

// args are the CNI_ARGS that the runtimes of Kubernetes have always given. A value that would read as further keys is left out.
func (a Attachment) args() [][2]string {
	all := [][2]string{
		{"IgnoreUnknown", "1"},
		{"K8S_POD_NAMESPACE", a.PodNamespace},
		{"K8S_POD_NAME", a.PodName},
		{"K8S_POD_INFRA_CONTAINER_ID", a.ID},
		{"K8S_POD_UID", a.PodUID},
	}
	return slices.DeleteFunc(all, func(kv [2]string) bool { return strings.ContainsAny(kv[1], ";=") })
}

// portCapability is an entry of the capability portMappings (CONVENTIONS.md of CNI).
type portCapability struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// dnsCapability is the capability dns.
type dnsCapability struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// capabilities are the arguments for plugins that say that they take them. All of it goes through JSON at once, so that a DEL after a
// restart passes what the ADD passed.
func (a Attachment) capabilities() (map[string]any, error) {
	caps := map[string]any{}
	var ports []portCapability
	for _, p := range a.Ports {
		if p.HostPort == 0 {
			continue
		}
		proto := strings.ToLower(p.Protocol)
		if proto == "" {
			proto = "tcp"
		}
		ports = append(ports, portCapability{p.HostPort, p.ContainerPort, proto, p.HostIP})
	}
	if len(ports) > 0 {
		caps["portMappings"] = ports
	}
	limits, err := bandwidthOf(a.Annotations)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if limits != nil {
		caps["bandwidth"] = limits
	}
	if err := a.requested(caps); err != nil {
		return nil, err
	}
	if len(a.DNS.Servers)+len(a.DNS.Searches)+len(a.DNS.Options) > 0 {
		caps["dns"] = dnsCapability(a.DNS)
	}
	if a.CgroupPath != "" {
		caps["cgroupPath"] = a.CgroupPath
	}
	if len(a.Annotations) > 0 {
		caps["io.kubernetes.cri.pod-annotations"] = a.Annotations
	}
	return caps, nil
}

// newResult picks the addresses of the pod's default interface.
func newResult(r types.Result, preference string) (*Result, error) {
	current, err := types100.NewResultFromResult(r)
	if err != nil {
		return nil, err
	}
	out := &Result{CNI: r}
	for _, ip := range current.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(current.Interfaces) {
			if on := current.Interfaces[*i]; on.Name != defaultInterface || on.Sandbox == "" {
				continue
			}
		}
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			out.IPs = append(out.IPs, addr.Unmap())
		}
	}
	if len(out.IPs) == 0 {
		return nil, errors.New("the plugins gave the pod no address")
	}
	sortIPs(out.IPs, preference)
	return out, nil
}

func sortIPs(ips []netip.Addr, preference string) {
	if preference == PreferCNI {
		return
	}
	last := func(a netip.Addr) int {
		if a.Is4() == (preference == PreferIPv4) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(ips, func(a, b netip.Addr) int { return last(a) - last(b) })
}
