package spec

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func ptr[T any](v T) *T { return &v }

// goodPod is a pod that nothing is wrong with.
func goodPod() *Pod {
	return &Pod{
		Metadata:     PodMetadata{Name: "web", UID: "u-1", Namespace: "default"},
		Hostname:     "web-0.example",
		LogDirectory: "/var/log/pods/web",
		DNS:          &DNS{Servers: []string{"10.96.0.10", "fe80::1%eth0"}, Searches: []string{"svc.cluster.local"}, Options: []string{"ndots:5"}},
		PortMappings: []PortMapping{{Protocol: TCP, ContainerPort: 80, HostPort: 8080, HostIP: "127.0.0.1"}, {Protocol: UDP, ContainerPort: 53}},
		CgroupParent: "/kubepods/burstable/podu-1",
		Sysctls:      map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "kernel/shm_rmid_forced": "1", "net/ipv4/conf/eth0.1/rp_filter": "1"},
		Security: PodSecurity{
			RunAsUser: ptr(int64(0)), RunAsGroup: ptr(int64(0)), SupplementalGroups: []int64{math.MaxInt32},
			Seccomp: &SecurityProfile{Kind: ProfileRuntimeDefault},
		},
		Resources: &Resources{CPUQuota: -1, MemoryLimit: 1 << 30},
	}
}

// goodContainer is a container of it.
func goodContainer() *Container {
	return &Container{
		Metadata: ContainerMetadata{Name: "app"}, Image: ImageRef{Image: "sha256:abc"},
		Command: []string{"/bin/app"}, Args: []string{"-v", ""}, WorkingDir: "/srv",
		Envs:    []Env{{Key: "A B", Value: []byte("x=\xff\n")}, {Key: "EMPTY"}},
		Mounts:  []Mount{{ContainerPath: "/data", HostPath: "/srv/data", Options: []string{"noexec"}}, {ContainerPath: "/ro", HostPath: "/x", Readonly: true, RecursiveReadonly: true}},
		Devices: []Device{{ContainerPath: "/dev/x", HostPath: "/dev/y", Permissions: "rw"}},
		LogPath: "app/0.log", StopSignal: 15,
		Resources: &Resources{CPUPeriod: 100000, CPUShares: 2, OOMScoreAdj: -998, CpusetCPUs: "0-3,8", Hugepages: []HugepageLimit{{PageSize: "2MB"}}, Unified: map[string]string{"memory.high": "max"}},
		Security: Security{
			CapabilitiesAdd: []string{"NET_ADMIN", "cap_sys_time"}, CapabilitiesDrop: []string{"all"}, RunAsUsername: "nobody", RunAsGroup: ptr(int64(5)),
			MaskedPaths: []string{"/proc/kcore"}, Seccomp: &SecurityProfile{Kind: ProfileLocalhost, Localhost: "/profiles/x.json"},
		},
	}
}

func userNamespace() *UserNamespace {
	return &UserNamespace{UIDs: []IDMapping{{0, 1000, 100000}}, GIDs: []IDMapping{{0, 1000, 100000}}}
}

func TestPodGood(t *testing.T) {
	for name, change := range map[string]func(*Pod){
		"as is":              func(*Pod) {},
		"no hostname":        func(p *Pod) { p.Hostname = "" },
		"no DNS":             func(p *Pod) { p.DNS = nil },
		"no parent":          func(p *Pod) { p.CgroupParent = "" },
		"root as parent":     func(p *Pod) { p.CgroupParent = "/" },
		"slash at the end":   func(p *Pod) { p.CgroupParent = "/a.slice/" },
		"user namespace":     func(p *Pod) { p.Security.Namespaces.User = userNamespace() },
		"node's users":       func(p *Pod) { p.Security.Namespaces.User = &UserNamespace{Mode: NamespaceNode} },
		"highest id":         func(p *Pod) { p.Security.RunAsUser = ptr(int64(math.MaxInt32)) },
		"host IPC, net only": func(p *Pod) { p.Security.Namespaces.IPC = NamespaceNode; delete(p.Sysctls, "kernel/shm_rmid_forced") },
		"mqueue":             func(p *Pod) { p.Sysctls = map[string]string{"fs.mqueue.msg_max": "100"} },
		"64 byte hostname": func(p *Pod) {
			p.Hostname = strings.Repeat("a", 31) + "." + strings.Repeat("b", 32)
		},
	} {
		p := goodPod()
		change(p)
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPodBad(t *testing.T) {
	sysctl := func(key, value string) func(*Pod) {
		return func(p *Pod) { p.Sysctls = map[string]string{key: value} }
	}
	users := func(change func(*UserNamespace)) func(*Pod) {
		return func(p *Pod) { p.Security.Namespaces.User = userNamespace(); change(p.Security.Namespaces.User) }
	}
	const security = "linux.security_context."
	for field, changes := range map[string][]func(*Pod){
		"metadata.name":      {func(p *Pod) { p.Metadata.Name = "" }, func(p *Pod) { p.Metadata.Name = "a\nb" }, func(p *Pod) { p.Metadata.Name = strings.Repeat("x", 600) }},
		"metadata.uid":       {func(p *Pod) { p.Metadata.UID = "" }},
		"metadata.namespace": {func(p *Pod) { p.Metadata.Namespace = "" }},
		"hostname": {
			func(p *Pod) { p.Hostname = "a_b" }, func(p *Pod) { p.Hostname = "-a" }, func(p *Pod) { p.Hostname = "a..b" }, func(p *Pod) { p.Hostname = "a b" },
			func(p *Pod) { p.Hostname = strings.Repeat("a.", 33) }, func(p *Pod) { p.Hostname = strings.Repeat("a", 64) }, func(p *Pod) { p.Hostname = "../etc" },
		},
		"log_directory":             {func(p *Pod) { p.LogDirectory = "logs" }, func(p *Pod) { p.LogDirectory = "/var/../etc" }, func(p *Pod) { p.LogDirectory = "/a\x00" }},
		"dns_config.servers[1]":     {func(p *Pod) { p.DNS.Servers[1] = "dns.example" }, func(p *Pod) { p.DNS.Servers[1] = "1.1.1.1\noptions x" }},
		"dns_config.searches[0]":    {func(p *Pod) { p.DNS.Searches[0] = "a b" }, func(p *Pod) { p.DNS.Searches[0] = "" }, func(p *Pod) { p.DNS.Searches[0] = "a\nnameserver 6.6.6.6" }},
		"dns_config.options[0]":     {func(p *Pod) { p.DNS.Options[0] = "x\ty" }},
		"port_mappings[0].protocol": {func(p *Pod) { p.PortMappings[0].Protocol = "icmp" }, func(p *Pod) { p.PortMappings[0].Protocol = "" }},
		"port_mappings[0].host_port": {
			func(p *Pod) { p.PortMappings[0].HostPort = 65536 }, func(p *Pod) { p.PortMappings[0].HostPort = -1 },
		},
		"port_mappings[0].container_port": {func(p *Pod) { p.PortMappings[0].ContainerPort = 0 }, func(p *Pod) { p.PortMappings[0].ContainerPort = 70000 }},
		"port_mappings[0].host_ip":        {func(p *Pod) { p.PortMappings[0].HostIP = "localhost" }},
		"linux.cgroup_parent": {
			func(p *Pod) { p.CgroupParent = "/kubepods/../../etc" }, func(p *Pod) { p.CgroupParent = "kubepods" }, func(p *Pod) { p.CgroupParent = "../x" },
			func(p *Pod) { p.CgroupParent = "/a//b" }, func(p *Pod) { p.CgroupParent = "/a/./b" }, func(p *Pod) { p.CgroupParent = "/a\x01" },
			func(p *Pod) { p.CgroupParent = "/" + strings.Repeat("x", 256) }, func(p *Pod) { p.CgroupParent = "//" },
		},
		"linux.sysctls[kernel.panic]":            {sysctl("kernel.panic", "1")},
		"linux.sysctls[kernel.hostname]":         {sysctl("kernel.hostname", "x")},
		"linux.sysctls[vm/swappiness]":           {sysctl("vm/swappiness", "0")},
		"linux.sysctls[net.ipv4.../../x]":        {sysctl("net.ipv4.../../x", "0")},
		"linux.sysctls[net/../kernel/panic]":     {sysctl("net/../kernel/panic", "0")},
		"linux.sysctls[net]":                     {sysctl("net", "0")},
		"linux.sysctls[]":                        {sysctl("", "0")},
		"linux.sysctls[net..ipv4]":               {sysctl("net..ipv4", "0")},
		"linux.sysctls[net.ipv4.ip_forward]":     {sysctl("net.ipv4.ip_forward", "1\n2"), func(p *Pod) { sysctl("net.ipv4.ip_forward", "1")(p); p.Security.Namespaces.Network = NamespaceNode }},
		"linux.sysctls[kernel.sem]":              {func(p *Pod) { sysctl("kernel.sem", "1")(p); p.Security.Namespaces.IPC = NamespaceNode }},
		"linux.sysctls[kernel.domainname]":       {func(p *Pod) { sysctl("kernel.domainname", "x")(p); p.Security.Namespaces.Network = NamespaceNode }},
		security + "run_as_user":                 {func(p *Pod) { p.Security.RunAsUser = ptr(int64(-1)) }, func(p *Pod) { p.Security.RunAsUser = ptr(int64(1) << 32) }},
		security + "run_as_group":                {func(p *Pod) { p.Security.RunAsUser = nil }, func(p *Pod) { p.Security.RunAsGroup = ptr(int64(math.MaxInt32) + 1) }},
		security + "supplemental_groups[0]":      {func(p *Pod) { p.Security.SupplementalGroups[0] = -5 }},
		security + "supplemental_groups_policy":  {func(p *Pod) { p.Security.SupplementalGroupsPolicy = "lax" }},
		security + "seccomp.profile_type":        {func(p *Pod) { p.Security.Seccomp.Kind = "" }},
		security + "seccomp.localhost_ref":       {func(p *Pod) { p.Security.Seccomp = &SecurityProfile{Kind: ProfileLocalhost} }},
		security + "namespace_options.network":   {func(p *Pod) { p.Security.Namespaces.Network = NamespaceContainer }},
		security + "namespace_options.ipc":       {func(p *Pod) { p.Security.Namespaces.IPC = NamespaceTarget }},
		security + "namespace_options.pid":       {func(p *Pod) { p.Security.Namespaces.PID = "elsewhere" }},
		security + "namespace_options.target_id": {func(p *Pod) { p.Security.Namespaces.PID = NamespaceTarget }},
		security + "namespace_options.userns_options.mode": {
			users(func(u *UserNamespace) { u.Mode = NamespaceContainer }), users(func(u *UserNamespace) { u.Mode = NamespaceTarget }),
		},
		security + "namespace_options.userns_options.uids": {
			users(func(u *UserNamespace) { u.UIDs = nil }), users(func(u *UserNamespace) { u.UIDs = append(u.UIDs, IDMapping{200000, 300000, 1}) }),
			users(func(u *UserNamespace) { u.UIDs[0].ContainerID = 1 }), users(func(u *UserNamespace) { u.Mode = NamespaceNode }),
		},
		security + "namespace_options.userns_options.uids[0]": {
			users(func(u *UserNamespace) { u.UIDs[0].Length = 0 }), users(func(u *UserNamespace) { u.UIDs[0].HostID = math.MaxUint32 - 5 }), users(func(u *UserNamespace) { u.UIDs[0].Length = math.MaxUint32 }),
		},
		security + "namespace_options.userns_options.gids": {users(func(u *UserNamespace) { u.GIDs = nil })},
		"linux.resources.cpu_shares":                       {func(p *Pod) { p.Resources.CPUShares = -1 }},
		"linux.overhead.memory_limit_in_bytes":             {func(p *Pod) { p.Overhead = &Resources{MemoryLimit: -2} }},
	} {
		for i, change := range changes {
			p := goodPod()
			change(p)
			refused(t, field, i, p.Validate())
		}
	}
}

// refused wants an error about one field.
func refused(t *testing.T, field string, i int, err error) {
	t.Helper()
	var bad *FieldError
	if !errors.As(err, &bad) || !errors.Is(err, ErrInvalid) {
		t.Errorf("%s %d: error is %v", field, i, err)
		return
	}
	if bad.Field != field || bad.Rule == "" {
		t.Errorf("%s %d: error is about %s: %v", field, i, bad.Field, err)
	}
}

func TestContainerGood(t *testing.T) {
	image := &ImageRef{Image: "sha256:def"}
	for name, change := range map[string]func(*Container, *Pod){
		"as is":            func(*Container, *Pod) {},
		"nothing but name": func(c *Container, _ *Pod) { *c = Container{Metadata: c.Metadata, Image: c.Image} },
		"image volume": func(c *Container, _ *Pod) {
			c.Mounts = []Mount{{ContainerPath: "/i", Image: image, Readonly: true, ImageSubPath: "a/b"}}
		},
		"sub path of another volume": func(c *Container, _ *Pod) {
			c.Mounts = []Mount{{ContainerPath: "/i", HostPath: "/srv", ImageSubPath: "../a"}}
		},
		"host's proc": func(c *Container, _ *Pod) { c.Mounts = []Mount{{ContainerPath: "/proc/", HostPath: "/proc"}} },
		"lxcfs": func(c *Container, _ *Pod) {
			c.Mounts = []Mount{{ContainerPath: "/proc/meminfo", HostPath: "/var/lib/lxcfs/proc/meminfo"}}
		},
		"same users": func(c *Container, p *Pod) {
			p.Security.Namespaces.User, c.Security.Namespaces.User = userNamespace(), userNamespace()
		},
		"pod's users":     func(_ *Container, p *Pod) { p.Security.Namespaces.User = userNamespace() },
		"both the node's": func(c *Container, _ *Pod) { c.Security.Namespaces.User = &UserNamespace{Mode: NamespaceNode} },
		"privileged":      func(c *Container, p *Pod) { p.Security.Privileged, c.Security.Privileged = true, true },
		"propagation":     func(c *Container, _ *Pod) { c.Mounts[0].Propagation = PropagationBidirectional },
		"swap equal":      func(c *Container, _ *Pod) { c.Resources.MemoryLimit, c.Resources.MemorySwap = 5, 5 },
		"idmapped": func(c *Container, _ *Pod) {
			c.Mounts[0].UIDs, c.Mounts[0].GIDs = []IDMapping{{0, 1, 5}}, []IDMapping{{0, 1, 5}}
		},
	} {
		c, p := goodContainer(), goodPod()
		change(c, p)
		if err := c.Validate(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestContainerBad(t *testing.T) {
	image := &ImageRef{Image: "sha256:def"}
	mount := func(change func(*Mount)) func(*Container) { return func(c *Container) { change(&c.Mounts[0]) } }
	onto := func(path string) func(*Container) { return mount(func(m *Mount) { m.ContainerPath = path }) }
	const security = "linux.security_context."
	for field, changes := range map[string][]func(*Container){
		"metadata.name": {func(c *Container) { c.Metadata.Name = "" }},
		"image.image":   {func(c *Container) { c.Image.Image = "" }},
		"command[0]":    {func(c *Container) { c.Command[0] = "a\x00b" }},
		"args[1]":       {func(c *Container) { c.Args[1] = "\x00" }},
		"working_dir":   {func(c *Container) { c.WorkingDir = "srv" }, func(c *Container) { c.WorkingDir = "/\x00" }},
		"envs[0].key":   {func(c *Container) { c.Envs[0].Key = "" }, func(c *Container) { c.Envs[0].Key = "A=B" }, func(c *Container) { c.Envs[0].Key = "A\x00" }},
		"envs[1].value": {func(c *Container) { c.Envs[1].Value = []byte{'a', 0} }},
		"mounts[0].container_path": {
			onto(""), onto("data"), onto("/"), onto("/a/../b"), onto("/a\nb"), onto("/proc"), onto("/proc/sys"), onto("/proc/self/attr"), onto("//proc/1"), onto("/."),
			mount(func(m *Mount) { m.ContainerPath, m.HostPath, m.Image, m.Readonly = "/proc", "", image, true }),
		},
		"mounts[0].host_path": {
			mount(func(m *Mount) { m.HostPath = "" }), mount(func(m *Mount) { m.HostPath = "x" }), mount(func(m *Mount) { m.HostPath = "/a/../b" }),
			mount(func(m *Mount) { m.Image, m.Readonly = image, true }),
		},
		"mounts[0].image.image":    {mount(func(m *Mount) { m.HostPath, m.Image, m.Readonly = "", &ImageRef{}, true })},
		"mounts[0].image_sub_path": {mount(func(m *Mount) { m.HostPath, m.Image, m.Readonly, m.ImageSubPath = "", image, true, "../x" }), mount(func(m *Mount) { m.HostPath, m.Image, m.Readonly, m.ImageSubPath = "", image, true, "/x" })},
		"mounts[0].readonly":       {mount(func(m *Mount) { m.HostPath, m.Image = "", image })},
		"mounts[0].propagation": {mount(func(m *Mount) { m.Propagation = "odd" }), mount(func(m *Mount) {
			m.HostPath, m.Image, m.Readonly, m.Propagation = "", image, true, PropagationHostToContainer
		})},
		"mounts[0].recursive_read_only": {
			mount(func(m *Mount) { m.RecursiveReadonly = true }), mount(func(m *Mount) {
				m.RecursiveReadonly, m.Readonly, m.Propagation = true, true, PropagationHostToContainer
			}),
			mount(func(m *Mount) { m.RecursiveReadonly, m.Readonly, m.Propagation = true, true, PropagationBidirectional }),
		},
		"mounts[0].mount_options[1]": {mount(func(m *Mount) { m.Options = append(m.Options, "suid") })},
		"mounts[0].uidMappings":      {mount(func(m *Mount) { m.UIDs = []IDMapping{{0, 0, 1}} })},
		"mounts[0].gidMappings[0]":   {mount(func(m *Mount) { m.UIDs, m.GIDs = []IDMapping{{0, 0, 1}}, []IDMapping{{0, 0, 0}} })},
		"mounts[1].container_path":   {func(c *Container) { c.Mounts[1] = Mount{ContainerPath: "/data/", Image: image, Readonly: true} }},
		"devices[0].host_path":       {func(c *Container) { c.Devices[0].HostPath = "null" }},
		"devices[0].container_path":  {func(c *Container) { c.Devices[0].ContainerPath = "/dev/../etc/passwd" }},
		"devices[0].permissions":     {func(c *Container) { c.Devices[0].Permissions = "" }, func(c *Container) { c.Devices[0].Permissions = "rx" }},
		"log_path":                   {func(c *Container) { c.LogPath = "../x" }, func(c *Container) { c.LogPath = "/abs" }, func(c *Container) { c.LogPath = "a/../../b" }, func(c *Container) { c.LogPath = "." }, func(c *Container) { c.LogPath = "a\nb" }},
		"stop_signal":                {func(c *Container) { c.StopSignal = 65 }, func(c *Container) { c.StopSignal = -1 }},

		"linux.resources.oom_score_adj":                {func(c *Container) { c.Resources.OOMScoreAdj = 1001 }, func(c *Container) { c.Resources.OOMScoreAdj = -1001 }},
		"linux.resources.cpu_quota":                    {func(c *Container) { c.Resources.CPUQuota = -2 }},
		"linux.resources.cpu_period":                   {func(c *Container) { c.Resources.CPUPeriod = -1 }},
		"linux.resources.memory_swap_limit_in_bytes":   {func(c *Container) { c.Resources.MemoryLimit, c.Resources.MemorySwap = 6, 5 }},
		"linux.resources.cpuset_cpus":                  {func(c *Container) { c.Resources.CpusetCPUs = "all" }, func(c *Container) { c.Resources.CpusetCPUs = "0\n" }},
		"linux.resources.cpuset_mems":                  {func(c *Container) { c.Resources.CpusetMems = "a" }},
		"linux.resources.hugepage_limits[0].page_size": {func(c *Container) { c.Resources.Hugepages[0].PageSize = "../../x" }, func(c *Container) { c.Resources.Hugepages[0].PageSize = "MB" }, func(c *Container) { c.Resources.Hugepages[0].PageSize = "2" }, func(c *Container) { c.Resources.Hugepages[0].PageSize = "2BB" }},
		"linux.resources.unified": {
			func(c *Container) { c.Resources.Unified = map[string]string{"../memory.max": "1"} }, func(c *Container) { c.Resources.Unified = map[string]string{"memory": "1"} },
			func(c *Container) { c.Resources.Unified = map[string]string{"cgroup.procs": "1"} }, func(c *Container) { c.Resources.Unified = map[string]string{"cgroup.kill": "1"} },
		},
		"linux.resources.unified[memory.high]": {func(c *Container) { c.Resources.Unified["memory.high"] = "1\x00" }},

		security + "privileged":                            {func(c *Container) { c.Security.Privileged = true }},
		security + "run_as_username":                       {func(c *Container) { c.Security.RunAsUser = ptr(int64(1)) }, func(c *Container) { c.Security.RunAsUsername = "a:b" }, func(c *Container) { c.Security.RunAsUsername = "a\nb" }},
		security + "run_as_group":                          {func(c *Container) { c.Security.RunAsUsername = "" }, func(c *Container) { *c.Security.RunAsGroup = -1 }},
		security + "run_as_user":                           {func(c *Container) { c.Security.RunAsUsername, c.Security.RunAsUser = "", ptr(int64(1)<<31) }},
		security + "capabilities.add_capabilities":         {func(c *Container) { c.Security.CapabilitiesAdd[0] = "CAP_FLY" }, func(c *Container) { c.Security.CapabilitiesAdd[0] = "" }},
		security + "capabilities.drop_capabilities":        {func(c *Container) { c.Security.CapabilitiesDrop = []string{"CAP_ALL"} }},
		security + "capabilities.add_ambient_capabilities": {func(c *Container) { c.Security.CapabilitiesAmbient = []string{"x"} }},
		security + "masked_paths[0]":                       {func(c *Container) { c.Security.MaskedPaths[0] = "proc/kcore" }, func(c *Container) { c.Security.MaskedPaths[0] = "/proc/../etc" }},
		security + "readonly_paths[0]":                     {func(c *Container) { c.Security.ReadonlyPaths = []string{""} }},
		security + "apparmor.localhost_ref":                {func(c *Container) { c.Security.AppArmor = &SecurityProfile{Kind: ProfileLocalhost} }},
		security + "namespace_options.target_id":           {func(c *Container) { c.Security.Namespaces.PID = NamespaceTarget }},
		security + "namespace_options.userns_options":      {func(c *Container) { c.Security.Namespaces.User = userNamespace() }},
	} {
		for i, change := range changes {
			c := goodContainer()
			change(c)
			refused(t, field, i, c.Validate(goodPod()))
		}
	}
}

// TestFieldErrorKeepsSecrets: an environment value is never in an error.
func TestFieldErrorKeepsSecrets(t *testing.T) {
	c := goodContainer()
	c.Envs = []Env{{Key: "PASSWORD", Value: []byte("hunter2\x00")}}
	err := c.Validate(goodPod())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v", err)
	}
}

func TestFieldErrorText(t *testing.T) {
	err := invalid("hostname", strings.Repeat("x", 1000), "must be shorter")
	if len(err.Error()) > 200 || !strings.Contains(err.Error(), "must be shorter") {
		t.Errorf("error is %v", err)
	}
}

func TestSysctlNames(t *testing.T) {
	for key, want := range map[string][2]string{
		"net.ipv4.ip_forward":           {"net.ipv4.ip_forward", "net/ipv4/ip_forward"},
		"net/ipv4/ip_forward":           {"net.ipv4.ip_forward", "net/ipv4/ip_forward"},
		"net/ipv4/conf/eth0.1/mtu":      {"net.ipv4.conf.eth0/1.mtu", "net/ipv4/conf/eth0.1/mtu"},
		"net.ipv4.conf.eth0/1.mtu":      {"net.ipv4.conf.eth0/1.mtu", "net/ipv4/conf/eth0.1/mtu"},
		"kernel":                        {"kernel", "kernel"},
		"fs.mqueue.msg_max":             {"fs.mqueue.msg_max", "fs/mqueue/msg_max"},
		"net/ipv6/neigh/veth@if3/delay": {"net.ipv6.neigh.veth@if3.delay", "net/ipv6/neigh/veth@if3/delay"},
	} {
		dots := NormalizeSysctl(key)
		if path := SysctlPath(dots); dots != want[0] || path != want[1] {
			t.Errorf("%s: %s, %s", key, dots, path)
		}
	}
}

// FuzzSysctl: what passes is a path below /proc/sys/{net,kernel,fs/mqueue}.
func FuzzSysctl(f *testing.F) {
	for _, s := range []string{"net.ipv4.ip_forward", "net/../kernel/panic", "net.ipv4.../x", "fs.mqueue.x", "kernel/sem", "net.a/..b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if validateSysctls(map[string]string{key: "1"}, Namespaces{}) != nil {
			return
		}
		path := SysctlPath(NormalizeSysctl(key))
		if !strings.HasPrefix(path, "net/") && !strings.HasPrefix(path, "kernel/") && !strings.HasPrefix(path, "fs/mqueue/") {
			t.Errorf("%q passes as %q", key, path)
		}
		for part := range strings.SplitSeq(path, "/") {
			if part == ".." || part == "." || part == "" {
				t.Errorf("%q passes as %q", key, path)
			}
		}
	})
}
