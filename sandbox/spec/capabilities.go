package spec

import (
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// allCapabilities is CRI's keyword for every capability there is.
const allCapabilities = "ALL"

// DefaultCapabilities are those of a container that asks for nothing: the set
// that Docker and containerd give, which images are written for.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// knownCapabilities are the names of all capabilities of the kernel's headers,
// in the kernel's order.
var knownCapabilities = func() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		names = append(names, "CAP_"+strings.ToUpper(c.String()))
	}
	return names
}()

// capabilityName is OCI's name ("CAP_NET_RAW") of what a client calls
// "net_raw", "NET_RAW" or "CAP_NET_RAW"; ok says whether there is one.
func capabilityName(name string) (string, bool) {
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "CAP_") {
		full = "CAP_" + full
	}
	return full, slices.Contains(knownCapabilities, full)
}

// capabilitySet is a set of capability names, kept in the kernel's order.
type capabilitySet map[string]bool

func newCapabilitySet(names []string) capabilitySet {
	set := capabilitySet{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

// apply sets the named capabilities to value. "ALL" is left to applyAll.
func (s capabilitySet) apply(field string, names []string, value bool) error {
	for _, name := range names {
		if strings.EqualFold(name, allCapabilities) {
			continue
		}
		full, ok := capabilityName(name)
		if !ok {
			return unknownCapability(field, name)
		}
		s[full] = value
	}
	return nil
}

// applyAll sets every capability to value when names has "ALL".
func (s capabilitySet) applyAll(names []string, value bool) {
	if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, allCapabilities) }) {
		return
	}
	for _, c := range knownCapabilities {
		s[c] = value
	}
}

// list is the set's names, without those that are not in bound (nil: no bound).
func (s capabilitySet) list(bound []string) []string {
	out := []string{}
	for _, c := range knownCapabilities {
		if s[c] && (bound == nil || slices.Contains(bound, c)) {
			out = append(out, c)
		}
	}
	return out
}

// capabilities computes a container's sets. What the daemon itself lacks is left
// out, as no process can get more than its parent has.
//
// The inheritable set holds the ambient capabilities only: any other entry of it
// gives files with inheritable bits more than the image's author meant (CVE-2022-24769).
func capabilities(sec Security, node Node) (*specs.LinuxCapabilities, error) {
	defaults := node.DefaultCapabilities
	if defaults == nil {
		defaults = DefaultCapabilities()
	}
	set := newCapabilitySet(defaults)
	if sec.Privileged {
		set = newCapabilitySet(knownCapabilities)
	} else if err := set.change(sec); err != nil {
		return nil, err
	}
	const field = "linux.security_context.capabilities.add_ambient_capabilities"
	ambient := capabilitySet{}
	ambient.applyAll(sec.CapabilitiesAmbient, true)
	if err := ambient.apply(field, sec.CapabilitiesAmbient, true); err != nil {
		return nil, err
	}
	for c := range ambient {
		set[c] = true // an ambient capability must be permitted too, see capabilities(7)
	}
	granted := set.list(node.Capabilities)
	raised := ambient.list(node.Capabilities)
	return &specs.LinuxCapabilities{
		Bounding:    granted,
		Permitted:   slices.Clone(granted),
		Effective:   slices.Clone(granted),
		Inheritable: raised,
		Ambient:     slices.Clone(raised),
	}, nil
}

// change adds and drops what the client asks for: first "ALL", so that single
// capabilities can be taken from or added to it ({add: ALL, drop: X} is all but
// X, {drop: ALL, add: X} is X; kubernetes/kubernetes#51980), then the single
// ones. What is both added and dropped is dropped.
func (s capabilitySet) change(sec Security) error {
	const field = "linux.security_context.capabilities."
	s.applyAll(sec.CapabilitiesAdd, true)
	s.applyAll(sec.CapabilitiesDrop, false)
	if err := s.apply(field+"add_capabilities", sec.CapabilitiesAdd, true); err != nil {
		return err
	}
	return s.apply(field+"drop_capabilities", sec.CapabilitiesDrop, false)
}

func unknownCapability(field, name string) error {
	return invalid(field, name, `must be a capability of capabilities(7), with or without "CAP_", or "ALL"`)
}
