package cni

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
)

// claims say which pod has which port of the host, whatever network leads it there: the built-in one, somebody's portmap plugin, or none at
// all, for a pod on the host's own network. They are made before an attachment's record, and read from the records by the next daemon.
type claims struct {
	mu    sync.Mutex
	by    map[string]claim             // by the pod's id
	ports map[portKey]map[string]claim // the same, by port
}

type portKey struct {
	protocol string
	port     int32
}

func (p PortMapping) key() portKey { return portKey{p.protocol(), p.HostPort} }

type claim struct {
	name  string // namespace/name of the pod
	ports []PortMapping
}

// take gives a pod its ports, in place of those it had. It is ErrPortTaken, naming the holder, when another has one of them: then the pod
// has none.
func (c *claims) take(id, name string, ports []PortMapping) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(id)
	for _, p := range ports {
		for other, held := range c.ports[p.key()] {
			for _, h := range held.ports {
				if p.excludes(h) {
					return fmt.Errorf("%w by pod %s (%s): host port %s", ErrPortTaken, held.name, other, h)
				}
			}
		}
	}
	if len(ports) == 0 {
		return nil
	}
	if c.by == nil {
		c.by, c.ports = map[string]claim{}, map[portKey]map[string]claim{}
	}
	c.by[id] = claim{name, ports}
	for _, p := range ports {
		if c.ports[p.key()] == nil {
			c.ports[p.key()] = map[string]claim{}
		}
		c.ports[p.key()][id] = c.by[id]
	}
	return nil
}

func (c *claims) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(id)
}

func (c *claims) forget(id string) {
	for _, p := range c.by[id].ports {
		if delete(c.ports[p.key()], id); len(c.ports[p.key()]) == 0 {
			delete(c.ports, p.key())
		}
	}
	delete(c.by, id)
}

// excludes says whether two pods cannot have both ports: as for bind(2), and for the Kubernetes scheduler, a port on all addresses and one on a
// single address exclude each other.
func (p PortMapping) excludes(o PortMapping) bool {
	if p.HostPort == 0 || p.HostPort != o.HostPort || p.protocol() != o.protocol() {
		return false
	}
	a, b := p.address(), o.address()
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}

func (p PortMapping) protocol() string {
	if p.Protocol == "" {
		return "tcp"
	}
	return strings.ToLower(p.Protocol)
}

// address is the one of the host, :: for all.
func (p PortMapping) address() netip.Addr {
	a, err := netip.ParseAddr(p.HostIP)
	if err != nil || a.IsUnspecified() {
		return netip.IPv6Unspecified()
	}
	return a.Unmap()
}

func (p PortMapping) String() string {
	if a := p.address(); !a.IsUnspecified() {
		return fmt.Sprintf("%d/%s of %s", p.HostPort, p.protocol(), a)
	}
	return fmt.Sprintf("%d/%s", p.HostPort, p.protocol())
}

// hostPorts are the attachment's mappings that have a port of the host.
func (a Attachment) hostPorts() []PortMapping {
	var out []PortMapping
	for _, p := range a.Ports {
		if p.HostPort != 0 {
			out = append(out, p)
		}
	}
	return out
}

// Reserve keeps the host's ports for a pod on the host's own network, until Del. It is ErrPortTaken when another pod has one of them,
// which the error names. Nothing but that is done for the pod, whose NetNS is "". It may be called again.
func (n *Network) Reserve(a Attachment) error {
	if err := a.validate(); err != nil {
		return err
	}
	if len(a.hostPorts()) == 0 {
		return nil
	}
	n.life.RLock()
	defer n.life.RUnlock()
	defer n.locks.take(a.ID)()
	return n.begin(&intent{
		ID: a.ID, IfName: defaultInterface, PodNamespace: a.PodNamespace, PodName: a.PodName, HostNetwork: true, Ports: a.hostPorts(),
	})
}
