package cri

import (
	"github.com/berth-runtime/berth/sandbox/spec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// decodePod translates the configuration of a pod sandbox. Its errors are
// *spec.FieldError, with CRI's name of the field.
func decodePod(in *v1.PodSandboxConfig, handler string) (*spec.Pod, error) {
	if in == nil {
		return nil, missing("config")
	}
	if in.Metadata == nil {
		return nil, missing("metadata")
	}
	ports, err := decodePorts("port_mappings", in.PortMappings)
	if err != nil {
		return nil, err
	}
	linux := in.GetLinux()
	security, err := decodePodSecurity("linux.security_context", linux.GetSecurityContext())
	if err != nil {
		return nil, err
	}
	return &spec.Pod{
		Metadata: spec.PodMetadata{
			Name:      in.Metadata.Name,
			UID:       in.Metadata.Uid,
			Namespace: in.Metadata.Namespace,
			Attempt:   in.Metadata.Attempt,
		},
		Hostname:       in.Hostname,
		LogDirectory:   in.LogDirectory,
		DNS:            decodeDNS(in.DnsConfig),
		PortMappings:   ports,
		Labels:         in.Labels,
		Annotations:    in.Annotations,
		RuntimeHandler: handler,
		CgroupParent:   linux.GetCgroupParent(),
		Sysctls:        linux.GetSysctls(),
		Security:       security,
		Overhead:       decodeResources(linux.GetOverhead()),
		Resources:      decodeResources(linux.GetResources()),
	}, nil
}

// decodeDNS keeps the difference between no DNS configuration (the host's
// resolv.conf) and an empty one.
func decodeDNS(in *v1.DNSConfig) *spec.DNS {
	if in == nil {
		return nil
	}
	return &spec.DNS{Servers: in.Servers, Searches: in.Searches, Options: in.Options}
}

var protocols = map[v1.Protocol]spec.Protocol{
	v1.Protocol_TCP:  spec.TCP,
	v1.Protocol_UDP:  spec.UDP,
	v1.Protocol_SCTP: spec.SCTP,
}

func decodePorts(field string, in []*v1.PortMapping) ([]spec.PortMapping, error) {
	return decodeList(field, in, func(field string, m *v1.PortMapping) (spec.PortMapping, error) {
		protocol, err := decodeEnum(field+".protocol", m.Protocol, protocols)
		return spec.PortMapping{
			Protocol:      protocol,
			ContainerPort: m.ContainerPort,
			HostPort:      m.HostPort,
			HostIP:        m.HostIp,
		}, err
	})
}

func decodePodSecurity(field string, in *v1.LinuxSandboxSecurityContext) (spec.PodSecurity, error) {
	if in == nil {
		return spec.PodSecurity{}, nil
	}
	namespaces, err := decodeNamespaces(field+".namespace_options", in.NamespaceOptions)
	if err != nil {
		return spec.PodSecurity{}, err
	}
	policy, err := decodeEnum(field+".supplemental_groups_policy", in.SupplementalGroupsPolicy, groupsPolicies)
	if err != nil {
		return spec.PodSecurity{}, err
	}
	//lint:ignore SA1019 a client of before CRI 1.23 sends the path alone.
	seccomp, err := decodeProfile(field+".seccomp", in.Seccomp, in.SeccompProfilePath)
	if err != nil {
		return spec.PodSecurity{}, err
	}
	appArmor, err := decodeProfile(field+".apparmor", in.Apparmor, "")
	if err != nil {
		return spec.PodSecurity{}, err
	}
	return spec.PodSecurity{
		Namespaces:               namespaces,
		SELinux:                  decodeSELinux(in.SelinuxOptions),
		RunAsUser:                decodeInt64(in.RunAsUser),
		RunAsGroup:               decodeInt64(in.RunAsGroup),
		ReadonlyRootfs:           in.ReadonlyRootfs,
		SupplementalGroups:       in.SupplementalGroups,
		SupplementalGroupsPolicy: policy,
		Privileged:               in.Privileged,
		Seccomp:                  seccomp,
		AppArmor:                 appArmor,
	}, nil
}
