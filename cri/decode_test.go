package cri

import (
	"errors"
	"math"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestDecodePod(t *testing.T) {
	in := &v1.PodSandboxConfig{
		Metadata:     &v1.PodSandboxMetadata{Name: "web", Uid: "u1", Namespace: "default", Attempt: 2},
		Hostname:     "web-0",
		LogDirectory: "/var/log/pods/default_web_u1",
		DnsConfig:    &v1.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"svc.local"}, Options: []string{"ndots:5"}},
		PortMappings: []*v1.PortMapping{{Protocol: v1.Protocol_UDP, ContainerPort: 53, HostPort: 5353, HostIp: "127.0.0.1"}},
		Labels:       map[string]string{"app": "web"},
		Annotations:  map[string]string{"note": "a b"},
		Linux: &v1.LinuxPodSandboxConfig{
			CgroupParent: "/kubepods/burstable/podu1",
			Sysctls:      map[string]string{"net.core.somaxconn": "1024"},
			Overhead:     &v1.LinuxContainerResources{CpuShares: 2},
			Resources:    &v1.LinuxContainerResources{MemoryLimitInBytes: 1 << 20},
			SecurityContext: &v1.LinuxSandboxSecurityContext{
				NamespaceOptions: &v1.NamespaceOption{
					Network: v1.NamespaceMode_NODE, Pid: v1.NamespaceMode_CONTAINER, Ipc: v1.NamespaceMode_POD,
					UsernsOptions: &v1.UserNamespace{
						Mode: v1.NamespaceMode_POD,
						Uids: []*v1.IDMapping{{HostId: 65536, ContainerId: 0, Length: 65536}},
						Gids: []*v1.IDMapping{{HostId: 131072, ContainerId: 0, Length: 65536}},
					},
				},
				SelinuxOptions:           &v1.SELinuxOption{Level: "s0:c1,c2"},
				RunAsUser:                &v1.Int64Value{Value: 0},
				RunAsGroup:               &v1.Int64Value{Value: 7},
				ReadonlyRootfs:           true,
				SupplementalGroups:       []int64{9},
				SupplementalGroupsPolicy: v1.SupplementalGroupsPolicy_Strict,
				Privileged:               true,
				Seccomp:                  &v1.SecurityProfile{ProfileType: v1.SecurityProfile_RuntimeDefault},
				Apparmor:                 &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Unconfined},
			},
		},
	}
	zero, seven := int64(0), int64(7)
	want := &spec.Pod{
		Metadata:       spec.PodMetadata{Name: "web", UID: "u1", Namespace: "default", Attempt: 2},
		Hostname:       "web-0",
		LogDirectory:   "/var/log/pods/default_web_u1",
		DNS:            &spec.DNS{Servers: []string{"10.0.0.10"}, Searches: []string{"svc.local"}, Options: []string{"ndots:5"}},
		PortMappings:   []spec.PortMapping{{Protocol: spec.UDP, ContainerPort: 53, HostPort: 5353, HostIP: "127.0.0.1"}},
		Labels:         map[string]string{"app": "web"},
		Annotations:    map[string]string{"note": "a b"},
		RuntimeHandler: "runsc",
		CgroupParent:   "/kubepods/burstable/podu1",
		Sysctls:        map[string]string{"net.core.somaxconn": "1024"},
		Overhead:       &spec.Resources{CPUShares: 2},
		Resources:      &spec.Resources{MemoryLimit: 1 << 20},
		Security: spec.PodSecurity{
			Namespaces: spec.Namespaces{
				Network: spec.NamespaceNode, PID: spec.NamespaceContainer, IPC: spec.NamespacePod,
				User: &spec.UserNamespace{
					UIDs: []spec.IDMapping{{HostID: 65536, Length: 65536}},
					GIDs: []spec.IDMapping{{HostID: 131072, Length: 65536}},
				},
			},
			SELinux:                  &spec.SELinux{Level: "s0:c1,c2"},
			RunAsUser:                &zero,
			RunAsGroup:               &seven,
			ReadonlyRootfs:           true,
			SupplementalGroups:       []int64{9},
			SupplementalGroupsPolicy: spec.GroupsStrict,
			Privileged:               true,
			Seccomp:                  &spec.SecurityProfile{Kind: spec.ProfileRuntimeDefault},
			AppArmor:                 &spec.SecurityProfile{Kind: spec.ProfileUnconfined},
		},
	}
	got, err := decodePod(in, "runsc")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// fullContainer has every field set that is decoded.
func fullContainer() *v1.ContainerConfig {
	return &v1.ContainerConfig{
		Metadata:   &v1.ContainerMetadata{Name: "web", Attempt: 1},
		Image:      &v1.ImageSpec{Image: "sha256:abc", UserSpecifiedImage: "web:1", RuntimeHandler: "runsc", Annotations: map[string]string{"a": "b"}, ImageRef: "ignored"},
		Command:    []string{"/bin/web"},
		Args:       []string{"-v"},
		WorkingDir: "/srv",
		Envs:       []*v1.KeyValue{{Key: "BYTES", Value: []byte{0xff, 0xfe}}, {Key: "EMPTY"}},
		Mounts: []*v1.Mount{
			{ContainerPath: "/data", HostPath: "/srv/data", Readonly: true, RecursiveReadOnly: true, MountOptions: []string{"noexec"}},
			{ContainerPath: "/model", Readonly: true, Image: &v1.ImageSpec{Image: "sha256:def"}, ImageSubPath: "v1"},
			{ContainerPath: "/shared", HostPath: "/mnt", Propagation: v1.MountPropagation_PROPAGATION_BIDIRECTIONAL, SelinuxRelabel: true, Image: &v1.ImageSpec{}},
		},
		Devices:     []*v1.Device{{ContainerPath: "/dev/a", HostPath: "/dev/b", Permissions: "rw"}},
		CDIDevices:  []*v1.CDIDevice{{Name: "vendor.com/gpu=0"}},
		Labels:      map[string]string{"l": "1"},
		Annotations: map[string]string{"n": "2"},
		LogPath:     "web/0.log",
		Stdin:       true, StdinOnce: true, Tty: true,
		StopSignal: v1.Signal_SIGNAL_SIGUSR1,
		Linux: &v1.LinuxContainerConfig{
			Resources: &v1.LinuxContainerResources{
				CpuPeriod: 100000, CpuQuota: -1, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: -997,
				CpusetCpus: "0-1", CpusetMems: "0", MemorySwapLimitInBytes: 128 << 20,
				HugepageLimits: []*v1.HugepageLimit{{PageSize: "2MB", Limit: 0}},
				Unified:        map[string]string{"memory.oom.group": "1"},
			},
			SecurityContext: &v1.LinuxContainerSecurityContext{
				Capabilities:     &v1.Capability{AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"}, AddAmbientCapabilities: []string{"CAP_CHOWN"}},
				Privileged:       true,
				NamespaceOptions: &v1.NamespaceOption{Pid: v1.NamespaceMode_TARGET, TargetId: "c0"},
				RunAsUser:        &v1.Int64Value{Value: 1000},
				RunAsUsername:    "www",
				ReadonlyRootfs:   true,
				NoNewPrivs:       true,
				MaskedPaths:      []string{"/proc/kcore"},
				ReadonlyPaths:    []string{"/proc/sys"},
				Seccomp:          &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: "/profiles/a.json"},
				Apparmor:         &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: "localhost/mine"},
			},
		},
	}
}

func TestDecodeContainer(t *testing.T) {
	user := int64(1000)
	want := &spec.Container{
		Metadata:   spec.ContainerMetadata{Name: "web", Attempt: 1},
		Image:      spec.ImageRef{Image: "sha256:abc", UserSpecifiedImage: "web:1", RuntimeHandler: "runsc", Annotations: map[string]string{"a": "b"}},
		Command:    []string{"/bin/web"},
		Args:       []string{"-v"},
		WorkingDir: "/srv",
		Envs:       []spec.Env{{Key: "BYTES", Value: []byte{0xff, 0xfe}}, {Key: "EMPTY"}},
		Mounts: []spec.Mount{
			{ContainerPath: "/data", HostPath: "/srv/data", Readonly: true, RecursiveReadonly: true, Options: []string{"noexec"}},
			{ContainerPath: "/model", Readonly: true, Image: &spec.ImageRef{Image: "sha256:def"}, ImageSubPath: "v1"},
			{ContainerPath: "/shared", HostPath: "/mnt", Propagation: spec.PropagationBidirectional, SELinuxRelabel: true},
		},
		Devices:     []spec.Device{{ContainerPath: "/dev/a", HostPath: "/dev/b", Permissions: "rw"}},
		CDIDevices:  []string{"vendor.com/gpu=0"},
		Labels:      map[string]string{"l": "1"},
		Annotations: map[string]string{"n": "2"},
		LogPath:     "web/0.log",
		Stdin:       true, StdinOnce: true, TTY: true,
		StopSignal: 10,
		Resources: &spec.Resources{
			CPUPeriod: 100000, CPUQuota: -1, CPUShares: 512, MemoryLimit: 64 << 20, OOMScoreAdj: -997,
			CpusetCPUs: "0-1", CpusetMems: "0", MemorySwap: 128 << 20,
			Hugepages: []spec.HugepageLimit{{PageSize: "2MB"}},
			Unified:   map[string]string{"memory.oom.group": "1"},
		},
		Security: spec.Security{
			CapabilitiesAdd: []string{"NET_ADMIN"}, CapabilitiesDrop: []string{"ALL"}, CapabilitiesAmbient: []string{"CAP_CHOWN"},
			Privileged:     true,
			Namespaces:     spec.Namespaces{PID: spec.NamespaceTarget, TargetID: "c0"},
			RunAsUser:      &user,
			RunAsUsername:  "www",
			ReadonlyRootfs: true,
			NoNewPrivs:     true,
			MaskedPaths:    []string{"/proc/kcore"},
			ReadonlyPaths:  []string{"/proc/sys"},
			Seccomp:        &spec.SecurityProfile{Kind: spec.ProfileLocalhost, Localhost: "/profiles/a.json"},
			AppArmor:       &spec.SecurityProfile{Kind: spec.ProfileLocalhost, Localhost: "mine"},
		},
	}
	got, err := decodeContainer(fullContainer())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A configuration with nothing but what must be there decodes to the zero values,
// not to empty lists, which would look like "explicitly none" further down.
func TestDecodeLeast(t *testing.T) {
	pod, err := decodePod(&v1.PodSandboxConfig{Metadata: &v1.PodSandboxMetadata{}}, "")
	if err != nil || !reflect.DeepEqual(pod, &spec.Pod{}) {
		t.Errorf("pod: %+v, %v", pod, err)
	}
	c, err := decodeContainer(&v1.ContainerConfig{Metadata: &v1.ContainerMetadata{}, Image: &v1.ImageSpec{}})
	if err != nil || !reflect.DeepEqual(c, &spec.Container{}) {
		t.Errorf("container: %+v, %v", c, err)
	}
}

func TestDecodePodErrors(t *testing.T) {
	namespaces := func(o *v1.NamespaceOption) *v1.PodSandboxConfig {
		return &v1.PodSandboxConfig{
			Metadata: &v1.PodSandboxMetadata{},
			Linux:    &v1.LinuxPodSandboxConfig{SecurityContext: &v1.LinuxSandboxSecurityContext{NamespaceOptions: o}},
		}
	}
	one := []*v1.IDMapping{{Length: 1}}
	for field, in := range map[string]*v1.PodSandboxConfig{
		"config":                    nil,
		"metadata":                  {},
		"port_mappings[1]":          {Metadata: &v1.PodSandboxMetadata{}, PortMappings: []*v1.PortMapping{{}, nil}},
		"port_mappings[0].protocol": {Metadata: &v1.PodSandboxMetadata{}, PortMappings: []*v1.PortMapping{{Protocol: 3}}},
		"linux.security_context.namespace_options.network":                namespaces(&v1.NamespaceOption{Network: 4}),
		"linux.security_context.namespace_options.pid":                    namespaces(&v1.NamespaceOption{Pid: -1}),
		"linux.security_context.namespace_options.ipc":                    namespaces(&v1.NamespaceOption{Ipc: 99}),
		"linux.security_context.namespace_options.userns_options.mode":    namespaces(&v1.NamespaceOption{UsernsOptions: &v1.UserNamespace{Mode: 9}}),
		"linux.security_context.namespace_options.userns_options.uids[0]": namespaces(&v1.NamespaceOption{UsernsOptions: &v1.UserNamespace{Uids: []*v1.IDMapping{nil}}}),
		"linux.security_context.namespace_options.userns_options.gids[1]": namespaces(&v1.NamespaceOption{UsernsOptions: &v1.UserNamespace{Uids: one, Gids: append(one, nil)}}),
		"linux.security_context.supplemental_groups_policy": {Metadata: &v1.PodSandboxMetadata{}, Linux: &v1.LinuxPodSandboxConfig{
			SecurityContext: &v1.LinuxSandboxSecurityContext{SupplementalGroupsPolicy: 2}}},
		"linux.security_context.seccomp.profile_type": {Metadata: &v1.PodSandboxMetadata{}, Linux: &v1.LinuxPodSandboxConfig{
			SecurityContext: &v1.LinuxSandboxSecurityContext{Seccomp: &v1.SecurityProfile{ProfileType: 3}}}},
		"linux.security_context.apparmor.profile_type": {Metadata: &v1.PodSandboxMetadata{}, Linux: &v1.LinuxPodSandboxConfig{
			SecurityContext: &v1.LinuxSandboxSecurityContext{Apparmor: &v1.SecurityProfile{ProfileType: 3}}}},
	} {
		_, err := decodePod(in, "")
		checkField(t, err, field)
	}
}

func TestDecodeContainerErrors(t *testing.T) {
	config := func(change func(*v1.ContainerConfig)) *v1.ContainerConfig {
		c := &v1.ContainerConfig{
			Metadata: &v1.ContainerMetadata{}, Image: &v1.ImageSpec{},
			Linux: &v1.LinuxContainerConfig{SecurityContext: &v1.LinuxContainerSecurityContext{}},
		}
		change(c)
		return c
	}
	for field, in := range map[string]*v1.ContainerConfig{
		"config":                   nil,
		"metadata":                 {},
		"image":                    {Metadata: &v1.ContainerMetadata{}},
		"envs[0]":                  config(func(c *v1.ContainerConfig) { c.Envs = []*v1.KeyValue{nil} }),
		"devices[0]":               config(func(c *v1.ContainerConfig) { c.Devices = []*v1.Device{nil} }),
		"CDI_devices[0]":           config(func(c *v1.ContainerConfig) { c.CDIDevices = []*v1.CDIDevice{nil} }),
		"mounts[0]":                config(func(c *v1.ContainerConfig) { c.Mounts = []*v1.Mount{nil} }),
		"mounts[1].propagation":    config(func(c *v1.ContainerConfig) { c.Mounts = []*v1.Mount{{}, {Propagation: 3}} }),
		"mounts[0].uidMappings[0]": config(func(c *v1.ContainerConfig) { c.Mounts = []*v1.Mount{{UidMappings: []*v1.IDMapping{nil}}} }),
		"mounts[0].gidMappings[0]": config(func(c *v1.ContainerConfig) { c.Mounts = []*v1.Mount{{GidMappings: []*v1.IDMapping{nil}}} }),
		"stop_signal":              config(func(c *v1.ContainerConfig) { c.StopSignal = 66 }),
		"linux.security_context.seccomp": config(func(c *v1.ContainerConfig) {
			//lint:ignore SA1019 the deprecated field is the case
			c.Linux.SecurityContext.SeccompProfilePath = "/profiles/no-prefix.json"
		}),
		"linux.security_context.apparmor": config(func(c *v1.ContainerConfig) {
			//lint:ignore SA1019 the deprecated field is the case
			c.Linux.SecurityContext.ApparmorProfile = "no-prefix"
		}),
		"linux.security_context.supplemental_groups_policy": config(func(c *v1.ContainerConfig) {
			c.Linux.SecurityContext.SupplementalGroupsPolicy = 5
		}),
		"linux.security_context.namespace_options.userns_options.mode": config(func(c *v1.ContainerConfig) {
			c.Linux.SecurityContext.NamespaceOptions = &v1.NamespaceOption{UsernsOptions: &v1.UserNamespace{
				Mode: -2}}
		}),
	} {
		_, err := decodeContainer(in)
		checkField(t, err, field)
	}
}

func checkField(t *testing.T, err error, field string) {
	t.Helper()
	var bad *spec.FieldError
	if !errors.As(err, &bad) || bad.Field != field {
		t.Errorf("want an error of %s, got %v", field, err)
	}
}

func TestDecodeProfile(t *testing.T) {
	for _, c := range []struct {
		in         *v1.SecurityProfile
		deprecated string
		want       *spec.SecurityProfile
	}{
		{nil, "", nil},
		{nil, "runtime/default", &spec.SecurityProfile{Kind: spec.ProfileRuntimeDefault}},
		{nil, "docker/default", &spec.SecurityProfile{Kind: spec.ProfileRuntimeDefault}},
		{nil, "unconfined", &spec.SecurityProfile{Kind: spec.ProfileUnconfined}},
		{nil, "localhost/mine", &spec.SecurityProfile{Kind: spec.ProfileLocalhost, Localhost: "mine"}},
		{nil, "localhost//p/a.json", &spec.SecurityProfile{Kind: spec.ProfileLocalhost, Localhost: "/p/a.json"}},
		{&v1.SecurityProfile{ProfileType: 1}, "localhost/mine", &spec.SecurityProfile{Kind: spec.ProfileUnconfined}},
		{&v1.SecurityProfile{ProfileType: 1, LocalhostRef: "x"}, "", &spec.SecurityProfile{Kind: spec.ProfileUnconfined}},
		{&v1.SecurityProfile{}, "unconfined", &spec.SecurityProfile{Kind: spec.ProfileRuntimeDefault}},
	} {
		got, err := decodeProfile("f", c.in, c.deprecated)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v, %q: got %+v, %v, want %+v", c.in, c.deprecated, got, err, c.want)
		}
	}
}

// No user namespace, the host's by name, and a pod's own without mappings are
// three things; spec.Validate refuses the last.
func TestDecodeUserNamespace(t *testing.T) {
	for _, c := range []struct {
		in   *v1.UserNamespace
		want *spec.UserNamespace
	}{
		{nil, nil},
		{&v1.UserNamespace{Mode: v1.NamespaceMode_NODE}, &spec.UserNamespace{Mode: spec.NamespaceNode}},
		{&v1.UserNamespace{}, &spec.UserNamespace{}},
		{&v1.UserNamespace{Mode: v1.NamespaceMode_CONTAINER}, &spec.UserNamespace{Mode: spec.NamespaceContainer}},
	} {
		got, err := decodeUserNamespace("f", c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %+v, %v, want %+v", c.in, got, err, c.want)
		}
	}
}

func TestDecodeCIDRs(t *testing.T) {
	for in, want := range map[string][]netip.Prefix{
		"":                         nil,
		",":                        nil,
		"10.1.0.0/24":              {netip.MustParsePrefix("10.1.0.0/24")},
		"10.1.0.7/24":              {netip.MustParsePrefix("10.1.0.0/24")},
		"10.1.0.0/24, fd00:1::/64": {netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")},
	} {
		got, err := decodeCIDRs("f", in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"10.1.0.0", "10.1.0.0/33", "x", "10.1.0.0/24;fd00::/64"} {
		if _, err := decodeCIDRs("f", in); !errors.Is(err, spec.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", in, err)
		}
	}
}

func TestDecodeSeconds(t *testing.T) {
	for in, want := range map[int64]time.Duration{
		0: 0, -5: 0, 30: 30 * time.Second, math.MinInt64: 0,
		math.MaxInt64: time.Duration(maxSeconds) * time.Second, // 292 years, and not before 1970
	} {
		if got := decodeSeconds(in); got != want {
			t.Errorf("%d: %v, want %v", in, got, want)
		}
	}
}

// FuzzDecode sends what any client could: bytes that are a message, whatever is in it.
func FuzzDecode(f *testing.F) {
	pod, container := &v1.RunPodSandboxRequest{}, &v1.CreateContainerRequest{}
	fillMessage(pod.ProtoReflect())
	fillMessage(container.ProtoReflect())
	for _, m := range []proto.Message{pod, container} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range []interface {
			proto.Message
			decode() (any, error)
		}{podDecoder{new(v1.RunPodSandboxRequest)}, containerDecoder{new(v1.CreateContainerRequest)}} {
			if proto.Unmarshal(data, m) != nil {
				continue
			}
			got, err := m.decode()
			if err != nil && !errors.Is(err, spec.ErrInvalid) {
				t.Errorf("an error that isn't the client's: %v", err)
			}
			if err == nil && reflect.ValueOf(got).IsNil() {
				t.Error("neither a result nor an error")
			}
		}
	})
}

type podDecoder struct{ *v1.RunPodSandboxRequest }

func (d podDecoder) decode() (any, error) { return decodePod(d.Config, d.RuntimeHandler) }

type containerDecoder struct{ *v1.CreateContainerRequest }

func (d containerDecoder) decode() (any, error) { return decodeContainer(d.Config) }
