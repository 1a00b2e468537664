package cri

import (
	"strings"

	"github.com/berth-runtime/berth/sandbox/spec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func decodeSecurity(field string, in *v1.LinuxContainerSecurityContext) (spec.Security, error) {
	if in == nil {
		return spec.Security{}, nil
	}
	namespaces, err := decodeNamespaces(field+".namespace_options", in.NamespaceOptions)
	if err != nil {
		return spec.Security{}, err
	}
	policy, err := decodeEnum(field+".supplemental_groups_policy", in.SupplementalGroupsPolicy, groupsPolicies)
	if err != nil {
		return spec.Security{}, err
	}
	//lint:ignore SA1019 old clients, and critest's AppArmor cases, send the deprecated fields alone.
	oldSeccomp, oldAppArmor := in.SeccompProfilePath, in.ApparmorProfile
	seccomp, err := decodeProfile(field+".seccomp", in.Seccomp, oldSeccomp)
	if err != nil {
		return spec.Security{}, err
	}
	appArmor, err := decodeProfile(field+".apparmor", in.Apparmor, oldAppArmor)
	if err != nil {
		return spec.Security{}, err
	}
	return spec.Security{
		Namespaces:               namespaces,
		CapabilitiesAdd:          in.Capabilities.GetAddCapabilities(),
		CapabilitiesDrop:         in.Capabilities.GetDropCapabilities(),
		CapabilitiesAmbient:      in.Capabilities.GetAddAmbientCapabilities(),
		Privileged:               in.Privileged,
		SELinux:                  decodeSELinux(in.SelinuxOptions),
		RunAsUser:                decodeInt64(in.RunAsUser),
		RunAsUsername:            in.RunAsUsername,
		RunAsGroup:               decodeInt64(in.RunAsGroup),
		ReadonlyRootfs:           in.ReadonlyRootfs,
		SupplementalGroups:       in.SupplementalGroups,
		SupplementalGroupsPolicy: policy,
		NoNewPrivs:               in.NoNewPrivs,
		MaskedPaths:              in.MaskedPaths,
		ReadonlyPaths:            in.ReadonlyPaths,
		Seccomp:                  seccomp,
		AppArmor:                 appArmor,
	}, nil
}

var groupsPolicies = map[v1.SupplementalGroupsPolicy]spec.GroupsPolicy{
	v1.SupplementalGroupsPolicy_Merge:  spec.GroupsMerge,
	v1.SupplementalGroupsPolicy_Strict: spec.GroupsStrict,
}

var namespaceModes = map[v1.NamespaceMode]spec.NamespaceMode{
	v1.NamespaceMode_POD:       spec.NamespacePod,
	v1.NamespaceMode_CONTAINER: spec.NamespaceContainer,
	v1.NamespaceMode_NODE:      spec.NamespaceNode,
	v1.NamespaceMode_TARGET:    spec.NamespaceTarget,
}

func decodeNamespaces(field string, in *v1.NamespaceOption) (spec.Namespaces, error) {
	var out spec.Namespaces
	if in == nil {
		return out, nil
	}
	var err error
	if out.Network, err = decodeEnum(field+".network", in.Network, namespaceModes); err != nil {
		return out, err
	}
	if out.PID, err = decodeEnum(field+".pid", in.Pid, namespaceModes); err != nil {
		return out, err
	}
	if out.IPC, err = decodeEnum(field+".ipc", in.Ipc, namespaceModes); err != nil {
		return out, err
	}
	out.TargetID = in.TargetId
	out.User, err = decodeUserNamespace(field+".userns_options", in.UsernsOptions)
	return out, err
}

// decodeUserNamespace keeps the mode and the mappings as they came, for the echo;
// which of them go together is spec.Validate's to say.
func decodeUserNamespace(field string, in *v1.UserNamespace) (*spec.UserNamespace, error) {
	if in == nil {
		return nil, nil
	}
	mode, err := decodeEnum(field+".mode", in.Mode, namespaceModes)
	if err != nil {
		return nil, err
	}
	uids, err := decodeIDMappings(field+".uids", in.Uids)
	if err != nil {
		return nil, err
	}
	gids, err := decodeIDMappings(field+".gids", in.Gids)
	if err != nil {
		return nil, err
	}
	return &spec.UserNamespace{Mode: mode, UIDs: uids, GIDs: gids}, nil
}

func decodeIDMappings(field string, in []*v1.IDMapping) ([]spec.IDMapping, error) {
	return decodeList(field, in, func(_ string, m *v1.IDMapping) (spec.IDMapping, error) {
		return spec.IDMapping{ContainerID: m.ContainerId, HostID: m.HostId, Length: m.Length}, nil
	})
}

func decodeSELinux(in *v1.SELinuxOption) *spec.SELinux {
	if in == nil || (in.User == "" && in.Role == "" && in.Type == "" && in.Level == "") {
		return nil
	}
	return &spec.SELinux{User: in.User, Role: in.Role, Type: in.Type, Level: in.Level}
}

var profileKinds = map[v1.SecurityProfile_ProfileType]spec.ProfileKind{
	v1.SecurityProfile_RuntimeDefault: spec.ProfileRuntimeDefault,
	v1.SecurityProfile_Unconfined:     spec.ProfileUnconfined,
	v1.SecurityProfile_Localhost:      spec.ProfileLocalhost,
}

// decodeProfile takes the profile's message, or the deprecated string when there
// is no message. Neither gives nil.
func decodeProfile(field string, in *v1.SecurityProfile, deprecated string) (*spec.SecurityProfile, error) {
	if in == nil {
		return decodeOldProfile(field, deprecated)
	}
	kind, err := decodeEnum(field+".profile_type", in.ProfileType, profileKinds)
	if err != nil {
		return nil, err
	}
	if kind != spec.ProfileLocalhost {
		return &spec.SecurityProfile{Kind: kind}, nil
	}
	// The deprecated form carried "localhost/<name>"; critest and some clients put
	// the same into the new field, as containerd and CRI-O accept.
	return &spec.SecurityProfile{Kind: kind, Localhost: strings.TrimPrefix(in.LocalhostRef, localhostPrefix)}, nil
}

const localhostPrefix = "localhost/"

// decodeOldProfile reads the deprecated profile strings: "runtime/default",
// "docker/default", "unconfined" and "localhost/<path or name>".
func decodeOldProfile(field, in string) (*spec.SecurityProfile, error) {
	switch in {
	case "":
		return nil, nil
	case "runtime/default", "docker/default":
		return &spec.SecurityProfile{Kind: spec.ProfileRuntimeDefault}, nil
	case "unconfined":
		return &spec.SecurityProfile{Kind: spec.ProfileUnconfined}, nil
	}
	name, ok := strings.CutPrefix(in, localhostPrefix)
	if !ok {
		return nil, invalid(field, in, "must be runtime/default, unconfined or localhost/<name>")
	}
	return &spec.SecurityProfile{Kind: spec.ProfileLocalhost, Localhost: name}, nil
}

func decodeInt64(in *v1.Int64Value) *int64 {
	if in == nil {
		return nil
	}
	v := in.Value
	return &v
}
