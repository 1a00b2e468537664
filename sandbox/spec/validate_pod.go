package spec

import (
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// Validate checks a pod's configuration. Its errors are *FieldError.
func (p *Pod) Validate() error {
	return firstError(
		p.Metadata.validate,
		func() error { return validateHostname(p.Hostname) },
		func() error { return validateLogDirectory(p.LogDirectory) },
		p.DNS.validate,
		p.validatePorts,
		func() error { return validateCgroupParent(p.CgroupParent) },
		p.Security.validate,
		func() error { return validateSysctls(p.Sysctls, p.Security.Namespaces) },
		func() error { return p.Overhead.validate("linux.overhead") },
		func() error { return p.Resources.validate("linux.resources") },
	)
}

func (m PodMetadata) validate() error {
	return firstError(
		func() error { return validateName("metadata.name", m.Name) },
		func() error { return validateName("metadata.uid", m.UID) },
		func() error { return validateName("metadata.namespace", m.Namespace) },
	)
}

// validateName checks a name of an object: needed, and printable.
func validateName(field, value string) error {
	switch {
	case value == "":
		return invalid(field, value, "is missing")
	case len(value) > 512:
		return invalid(field, value, "must be at most 512 bytes long")
	case strings.ContainsFunc(value, isControl):
		return invalid(field, value, "must not have control characters")
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// validateHostname wants a host name as in RFC 1123, which is at most 64 bytes
// long for the kernel (sethostname(2)). None means the node's.
func validateHostname(name string) error {
	const rule = "must be a host name of RFC 1123: letters, digits, - and dots, each part starting and ending with a letter or digit"
	if len(name) > 64 {
		return invalid("hostname", name, "must be at most 64 bytes long")
	}
	if name == "" {
		return nil
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || len(part) > 63 || strings.Trim(part, "-") != part || strings.ContainsFunc(part, notHostnameRune) {
			return invalid("hostname", name, rule)
		}
	}
	return nil
}

func notHostnameRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
}

func validateLogDirectory(dir string) error {
	if dir == "" {
		return nil
	}
	return validateAbsolute("log_directory", dir)
}

// validateAbsolute wants an absolute path that climbs nowhere.
func validateAbsolute(field, p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return invalid(field, p, "must be an absolute path")
	case strings.ContainsAny(p, "\x00\n"):
		return invalid(field, p, "must not have NUL or newline")
	case hasElement(p, ".."):
		return invalid(field, p, `must not have ".."`)
	case len(p) > 4095:
		return invalid(field, p, "must be at most 4095 bytes long")
	}
	return nil
}

// hasElement says whether a path has an element of that name.
func hasElement(p, name string) bool {
	for element := range strings.SplitSeq(p, "/") {
		if element == name {
			return true
		}
	}
	return false
}

// validate checks what becomes a resolv.conf: nothing in it may start a line or
// a word of its own.
func (d *DNS) validate() error {
	if d == nil {
		return nil
	}
	for i, s := range d.Servers {
		if _, err := netip.ParseAddr(s); err != nil {
			return invalid(index("dns_config.servers", i), s, "must be an IP address")
		}
	}
	for _, list := range []struct {
		field string
		words []string
	}{{"dns_config.searches", d.Searches}, {"dns_config.options", d.Options}} {
		for i, w := range list.words {
			if w == "" || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				return invalid(index(list.field, i), w, "must be one word")
			}
		}
	}
	return nil
}

// index is the name of the i-th element of a field.
func index(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

func (p *Pod) validatePorts() error {
	for i, m := range p.PortMappings {
		field := index("port_mappings", i)
		if m.Protocol != TCP && m.Protocol != UDP && m.Protocol != SCTP {
			return invalid(field+".protocol", m.Protocol, "must be TCP, UDP or SCTP")
		}
		if m.HostPort < 0 || m.HostPort > 65535 {
			return invalid(field+".host_port", m.HostPort, "must be from 0 to 65535")
		}
		if m.ContainerPort < 0 || m.ContainerPort > 65535 || m.ContainerPort == 0 && m.HostPort != 0 {
			return invalid(field+".container_port", m.ContainerPort, "must be from 1 to 65535")
		}
		if m.HostIP != "" {
			if _, err := netip.ParseAddr(m.HostIP); err != nil {
				return invalid(field+".host_ip", m.HostIP, "must be an IP address")
			}
		}
	}
	return nil
}

// validateCgroupParent wants a path from the root of the hierarchy, in cgroupfs
// syntax, that means the same directory on whatever way it is read.
func validateCgroupParent(parent string) error {
	const field = "linux.cgroup_parent"
	if parent == "" || parent == "/" {
		return nil
	}
	if err := validateAbsolute(field, parent); err != nil {
		return err
	}
	if strings.Contains(parent, "//") || path.Clean(parent) != strings.TrimSuffix(parent, "/") {
		return invalid(field, parent, `must not have "." or empty elements`)
	}
	for element := range strings.SplitSeq(parent[1:], "/") {
		if len(element) > 255 || strings.ContainsFunc(element, isControl) {
			return invalid(field, parent, "each element must be at most 255 printable bytes")
		}
	}
	return nil
}

func (s *PodSecurity) validate() error {
	const field = "linux.security_context"
	if s.RunAsGroup != nil && s.RunAsUser == nil {
		return invalid(field+".run_as_group", *s.RunAsGroup, "needs run_as_user")
	}
	return firstError(
		func() error { return s.Namespaces.validate(field + ".namespace_options") },
		func() error { return validateID(field+".run_as_user", s.RunAsUser) },
		func() error { return validateID(field+".run_as_group", s.RunAsGroup) },
		func() error { return validateGroups(field, s.SupplementalGroups, s.SupplementalGroupsPolicy) },
		func() error { return s.Seccomp.validateSeccomp(field + ".seccomp") },
		func() error { return s.AppArmor.validate(field + ".apparmor") },
		func() error { return s.SELinux.validate(field + ".selinux_options") },
	)
}

func validateID(field string, id *int64) error {
	if id != nil && (*id < 0 || *id > maxID) {
		return invalid(field, *id, "must be from 0 to %d", maxID)
	}
	return nil
}

func validateGroups(field string, groups []int64, policy GroupsPolicy) error {
	if policy != GroupsMerge && policy != GroupsStrict {
		return invalid(field+".supplemental_groups_policy", policy, "must be Merge or Strict")
	}
	for i := range groups {
		if err := validateID(index(field+".supplemental_groups", i), &groups[i]); err != nil {
			return err
		}
	}
	return nil
}

// validate checks a security profile. Localhost names are checked where they
// are resolved; here, that there is one where it is used.
func (p *SecurityProfile) validate(field string) error {
	if p == nil {
		return nil
	}
	switch p.Kind {
	case ProfileRuntimeDefault, ProfileUnconfined:
		return nil
	case ProfileLocalhost:
		if p.Localhost == "" || strings.ContainsFunc(p.Localhost, isControl) {
			return invalid(field+".localhost_ref", p.Localhost, "must name a profile")
		}
		return nil
	default:
		return invalid(field+".profile_type", p.Kind, "must be RuntimeDefault, Unconfined or Localhost")
	}
}

// validateSeccomp also wants a profile in a file to be named by its whole path, as
// kubelet does: a relative one would depend on where the daemon was started.
func (p *SecurityProfile) validateSeccomp(field string) error {
	if err := p.validate(field); err != nil || p == nil || p.Kind != ProfileLocalhost {
		return err
	}
	return validateAbsolute(field+".localhost_ref", p.Localhost)
}

// validate checks which namespaces are asked for.
func (n Namespaces) validate(field string) error {
	if n.Network != NamespacePod && n.Network != NamespaceNode {
		return invalid(field+".network", n.Network, "must be POD or NODE")
	}
	if n.IPC != NamespacePod && n.IPC != NamespaceNode {
		return invalid(field+".ipc", n.IPC, "must be POD or NODE")
	}
	switch n.PID {
	case NamespacePod, NamespaceContainer, NamespaceNode:
	case NamespaceTarget:
		if n.TargetID == "" {
			return invalid(field+".target_id", n.TargetID, "is needed for pid TARGET")
		}
	default:
		return invalid(field+".pid", n.PID, "must be POD, CONTAINER, NODE or TARGET")
	}
	if err := n.User.validate(field + ".userns_options"); err != nil {
		return err
	}
	return n.validateOwned(field)
}

// validateOwned wants a user namespace to own what its containers mount file systems of: proc shows a PID
// namespace and mqueue an IPC namespace, and the kernel lets only their owner mount them. (The host's
// network does go with a user namespace: CRI's RuntimeFeatures.user_namespaces_host_network.)
func (n Namespaces) validateOwned(field string) error {
	const rule = "must not be NODE in a user namespace"
	switch {
	case n.OwnUser() == nil:
		return nil
	case n.PID == NamespaceNode:
		return invalid(field+".pid", n.PID, rule)
	case n.IPC == NamespaceNode:
		return invalid(field+".ipc", n.IPC, rule)
	}
	return nil
}

// validate holds a user namespace to CRI: modes POD and NODE, and one mapping
// of each kind, which has to map id 0.
func (u *UserNamespace) validate(field string) error {
	if u == nil {
		return nil
	}
	if u.Mode != NamespacePod && u.Mode != NamespaceNode {
		return invalid(field+".mode", u.Mode, "must be POD or NODE")
	}
	for _, list := range []struct {
		field    string
		mappings []IDMapping
	}{{field + ".uids", u.UIDs}, {field + ".gids", u.GIDs}} {
		if u.Mode == NamespaceNode {
			if len(list.mappings) > 0 {
				return invalid(list.field, list.mappings, "mode NODE takes no mappings")
			}
			continue
		}
		if len(list.mappings) != 1 {
			return invalid(list.field, list.mappings, "must have exactly one mapping")
		}
		if list.mappings[0].ContainerID != 0 {
			return invalid(list.field, list.mappings, "must map id 0 of the container")
		}
		if err := validateMappings(list.field, list.mappings); err != nil {
			return err
		}
	}
	return nil
}

// validateMappings wants ranges that are not empty and end within 32 bits;
// 4294967295 means "no id" to the kernel.
func validateMappings(field string, mappings []IDMapping) error {
	const end = uint64(1)<<32 - 1
	for i, m := range mappings {
		if m.Length == 0 {
			return invalid(index(field, i), m, "the length must not be 0")
		}
		if uint64(m.HostID)+uint64(m.Length) > end || uint64(m.ContainerID)+uint64(m.Length) > end {
			return invalid(index(field, i), m, "must end below id %d", end)
		}
	}
	return nil
}
