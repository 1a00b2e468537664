package spec

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files")

// input is a container of kubelet's, as Build gets it.
func input() Input {
	c, p := goodContainer(), goodPod()
	c.Resources.CPUQuota, c.Resources.MemoryLimit = 50000, 64<<20
	c.Security.CapabilitiesAdd, c.Security.CapabilitiesDrop = []string{"NET_ADMIN"}, []string{"MKNOD"}
	c.Security.ReadonlyPaths = []string{"/proc/sys"}
	c.Annotations = map[string]string{"team": "a"}
	return Input{
		Pod: p, PodID: "p1", Container: c, ContainerID: "c1",
		Image: &ocispec.ImageConfig{Env: []string{"PATH=/app/bin", "LANG=C"}, Entrypoint: []string{"/entry"}, Cmd: []string{"cmd"}, WorkingDir: "/home"},
		User:  User{UID: 1000, GID: 5, Groups: []uint32{5, 1234}, Home: "/home/app"},
		Node:  Node{Hostname: "node1", PidsLimit: 1000, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 524288}}},

		CgroupPath: "/kubepods/burstable/podu-1/c1", ResolvConf: "/state/resolv.conf", Hostname: "/state/hostname", Hosts: "/state/hosts",
		Seccomp:         &specs.LinuxSeccomp{DefaultAction: specs.ActErrno},
		AppArmorProfile: "berth-default",
		Devices:         []HostDevice{{LinuxDevice: specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 10, Minor: 3}, Access: "rw"}},
		HostDevices:     []HostDevice{{LinuxDevice: specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8}, Access: "rwm"}},
	}
}

// TestGolden holds whole Specs against testdata/*.json; -update writes them.
func TestGolden(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"plain": func(*Input) {},
		"privileged": func(in *Input) {
			in.Pod.Security.Privileged, in.Container.Security.Privileged = true, true
			in.Container.TTY = true
		},
		"usernamespace": func(in *Input) {
			in.Pod.Security.Namespaces.User = userNamespace()
			in.Pod.Security.Namespaces.Network = NamespaceNode
			in.Container.Mounts[0].UIDs, in.Container.Mounts[0].GIDs = []IDMapping{{0, 1000, 100000}}, []IDMapping{{0, 1000, 100000}}
		},
		"minimal": func(in *Input) {
			pod := &Pod{Metadata: in.Pod.Metadata, Hostname: "web"}
			c := &Container{Metadata: in.Container.Metadata, Image: in.Container.Image, Command: []string{"sh"}}
			*in = Input{Pod: pod, PodID: "p1", Container: c, ContainerID: "c1", CgroupPath: "/p1/c1"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			change(&in)
			got, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.MarshalIndent(got, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimSpace(string(want)), string(text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestArguments(t *testing.T) {
	image := &ocispec.ImageConfig{Entrypoint: []string{"/entry", "-e"}, Cmd: []string{"cmd"}}
	for _, c := range []struct {
		command, args []string
		image         *ocispec.ImageConfig
		want          string
	}{
		{nil, nil, image, "/entry -e cmd"},
		{nil, []string{"a"}, image, "/entry -e a"},
		{[]string{"c"}, nil, image, "c"}, // the image's Cmd is not for our command
		{[]string{"c"}, []string{"a", "b"}, image, "c a b"},
		{nil, nil, &ocispec.ImageConfig{Cmd: []string{"sh"}}, "sh"},
		{nil, []string{"a"}, &ocispec.ImageConfig{}, "a"},
		{nil, nil, &ocispec.ImageConfig{}, ""},
		{[]string{""}, nil, image, ""},
	} {
		got, err := arguments(&Container{Command: c.command, Args: c.args}, c.image)
		if c.want == "" {
			if !errors.Is(err, ErrNoCommand) {
				t.Errorf("%v %v: error is %v", c.command, c.args, err)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%v %v: %v, %v", c.command, c.args, got, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	in := input()
	in.Image.Env = []string{"PATH=/app", "A=1", "A=2", "noequals", "=odd", "NUL=\x00", "B=image", "HOME="}
	in.Container.Envs = []Env{{Key: "B", Value: []byte("client")}, {Key: "C", Value: []byte("a=b")}, {Key: "C", Value: []byte("last")}, {Key: "A2", Value: nil}}
	in.Container.TTY = true
	want := []string{"PATH=/app", "HOSTNAME=web-0.example", "TERM=xterm", "A=2", "B=client", "HOME=/home/app", "C=last", "A2="}
	if got := environment(in, in.Image); !slices.Equal(got, want) {
		t.Errorf("environment is\n%q, want\n%q", got, want)
	}
	in.Container.Envs, in.Image.Env, in.User.Home, in.Container.TTY = []Env{{Key: "TERM", Value: []byte("vt100")}}, nil, "", false
	in.Pod.Security.Namespaces.Network = NamespaceNode
	want = []string{"PATH=" + defaultPath, "HOSTNAME=node1", "TERM=vt100", "HOME=/"}
	if got := environment(in, in.Image); !slices.Equal(got, want) {
		t.Errorf("environment is\n%q, want\n%q", got, want)
	}
}

func TestWorkingDir(t *testing.T) {
	for _, c := range []struct{ client, image, want string }{
		{"/c", "/i", "/c"}, {"", "/i", "/i"}, {"", "rel", "/rel"}, {"", "", "/"},
	} {
		if got := workingDir(&Container{WorkingDir: c.client}, &ocispec.ImageConfig{WorkingDir: c.image}); got != c.want {
			t.Errorf("%q, %q: %q", c.client, c.image, got)
		}
	}
}

func TestCapabilities(t *testing.T) {
	except := func(list []string, names ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(names, c) })
	}
	defaults := newCapabilitySet(DefaultCapabilities()).list(nil)
	if len(defaults) != 14 {
		t.Errorf("%d default capabilities", len(defaults))
	}
	for name, c := range map[string]struct {
		sec     Security
		node    Node
		want    []string
		ambient []string
	}{
		"defaults":        {Security{}, Node{}, defaults, nil},
		"drop":            {Security{CapabilitiesDrop: []string{"kill", "CAP_MKNOD"}}, Node{}, except(defaults, "CAP_KILL", "CAP_MKNOD"), nil},
		"drop all":        {Security{CapabilitiesDrop: []string{"ALL"}}, Node{}, []string{}, nil},
		"drop all, add":   {Security{CapabilitiesDrop: []string{"ALL"}, CapabilitiesAdd: []string{"SYS_TIME"}}, Node{}, []string{"CAP_SYS_TIME"}, nil},
		"add all":         {Security{CapabilitiesAdd: []string{"all"}}, Node{}, knownCapabilities, nil},
		"all but one":     {Security{CapabilitiesAdd: []string{"ALL"}, CapabilitiesDrop: []string{"SYS_ADMIN"}}, Node{}, except(knownCapabilities, "CAP_SYS_ADMIN"), nil},
		"added, dropped":  {Security{CapabilitiesAdd: []string{"SYS_TIME"}, CapabilitiesDrop: []string{"SYS_TIME"}}, Node{}, defaults, nil},
		"both all":        {Security{CapabilitiesAdd: []string{"ALL"}, CapabilitiesDrop: []string{"ALL"}}, Node{}, []string{}, nil},
		"privileged":      {Security{Privileged: true, CapabilitiesDrop: []string{"ALL"}}, Node{}, knownCapabilities, nil},
		"node's bound":    {Security{Privileged: true}, Node{Capabilities: []string{"CAP_KILL"}}, []string{"CAP_KILL"}, nil},
		"node's defaults": {Security{}, Node{DefaultCapabilities: []string{"CAP_KILL"}}, []string{"CAP_KILL"}, nil},
		"ambient":         {Security{CapabilitiesDrop: []string{"ALL"}, CapabilitiesAmbient: []string{"net_bind_service"}}, Node{}, []string{"CAP_NET_BIND_SERVICE"}, []string{"CAP_NET_BIND_SERVICE"}},
		"ambient bound":   {Security{CapabilitiesDrop: []string{"ALL"}, CapabilitiesAmbient: []string{"KILL", "SYS_TIME"}}, Node{Capabilities: []string{"CAP_KILL"}}, []string{"CAP_KILL"}, []string{"CAP_KILL"}},
	} {
		got, err := capabilities(c.sec, c.node)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for set, list := range map[string][]string{"bounding": got.Bounding, "permitted": got.Permitted, "effective": got.Effective} {
			if !slices.Equal(list, c.want) {
				t.Errorf("%s: %s is %v,\nwant %v", name, set, list, c.want)
			}
		}
		// CVE-2022-24769: nothing inheritable but what is ambient.
		if !slices.Equal(got.Ambient, c.ambient) || !slices.Equal(got.Inheritable, c.ambient) {
			t.Errorf("%s: ambient %v, inheritable %v", name, got.Ambient, got.Inheritable)
		}
	}
}

func TestMountOrder(t *testing.T) {
	in := input()
	in.Container.Mounts = []Mount{
		{ContainerPath: "/a/b/c", HostPath: "/1"}, {ContainerPath: "/a", HostPath: "/2"}, {ContainerPath: "/a/b/", HostPath: "/3"},
		{ContainerPath: "/dev/shm", HostPath: "/4"}, {ContainerPath: "/etc/hosts", HostPath: "/5"}, {ContainerPath: "/z", HostPath: "/6"},
	}
	var got []string
	for _, m := range mounts(in) {
		got = append(got, m.Destination)
	}
	want := []string{
		"/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup",
		"/a", "/z", "/etc/hostname", "/etc/resolv.conf", "/a/b", "/dev/shm", "/etc/hosts", "/a/b/c",
	}
	if !slices.Equal(got, want) {
		t.Errorf("order is %v,\nwant %v", got, want)
	}
}

func TestMountOverDev(t *testing.T) {
	in := input()
	in.Container.Mounts = []Mount{{ContainerPath: "/dev", HostPath: "/dev"}, {ContainerPath: "/sys/fs/cgroup", HostPath: "/sys/fs/cgroup"}}
	for _, m := range mounts(in) {
		if strings.HasPrefix(m.Destination, "/dev/") || m.Type == "tmpfs" || m.Type == "cgroup" {
			t.Errorf("%s (%s) covers the client's own", m.Destination, m.Type)
		}
	}
}

func TestVolumeMounts(t *testing.T) {
	got := volumeMounts([]Mount{
		{ContainerPath: "/a/", HostPath: "/h", Readonly: true, RecursiveReadonly: true, Options: []string{"noexec"}},
		{ContainerPath: "/b", HostPath: "/h", Readonly: true, Propagation: PropagationHostToContainer},
		{ContainerPath: "/c", HostPath: "/h", Propagation: PropagationBidirectional, UIDs: []IDMapping{{0, 7, 9}}, GIDs: []IDMapping{{1, 2, 3}}},
		{ContainerPath: "/d", Image: &ImageRef{Image: "i"}, Readonly: true, HostPath: "/ignored"},
	})
	want := []specs.Mount{
		{Destination: "/a", Type: "bind", Source: "/h", Options: []string{"rbind", "rprivate", "rro", "noexec"}},
		{Destination: "/b", Type: "bind", Source: "/h", Options: []string{"rbind", "rslave", "ro"}},
		{
			Destination: "/c", Type: "bind", Source: "/h", Options: []string{"rbind", "rshared", "rw"},
			UIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 7, Size: 9}}, GIDMappings: []specs.LinuxIDMapping{{ContainerID: 1, HostID: 2, Size: 3}},
		},
		{Destination: "/d", Type: "bind", Options: []string{"rbind", "rprivate", "ro"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDescriptorMounts(t *testing.T) {
	in := input()
	in.Container.Mounts = append(in.Container.Mounts, Mount{ContainerPath: "/img", Image: &ImageRef{Image: "i"}, Readonly: true})
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := DescriptorMounts(s); !slices.Equal(got, []string{"/dev/shm", "/img"}) {
		t.Errorf("by descriptor: %v", got)
	}
	in.Pod.Security.Namespaces.IPC = NamespaceNode
	delete(in.Pod.Sysctls, "kernel/shm_rmid_forced")
	if s, err = Build(in); err != nil {
		t.Fatal(err)
	}
	if got := DescriptorMounts(s); !slices.Equal(got, []string{"/img"}) {
		t.Errorf("with the host's IPC: %v", got)
	}
}

func TestNamespaces(t *testing.T) {
	const mnt, net, uts, ipc, pid, cgroup, users = specs.MountNamespace, specs.NetworkNamespace, specs.UTSNamespace, specs.IPCNamespace, specs.PIDNamespace, specs.CgroupNamespace, specs.UserNamespace
	type kinds []specs.LinuxNamespaceType
	for name, c := range map[string]struct {
		pod        Namespaces
		pid        NamespaceMode
		privileged bool
		all        kinds
		joined     kinds
	}{
		"kubelet's":  {Namespaces{}, NamespaceContainer, false, kinds{mnt, net, uts, ipc, pid, cgroup}, kinds{net, uts, ipc}},
		"shared pid": {Namespaces{}, NamespacePod, false, kinds{mnt, net, uts, ipc, pid, cgroup}, kinds{net, uts, ipc, pid}},
		"target":     {Namespaces{}, NamespaceTarget, false, kinds{mnt, net, uts, ipc, pid, cgroup}, kinds{net, uts, ipc, pid}},
		"host":       {Namespaces{Network: NamespaceNode, IPC: NamespaceNode}, NamespaceNode, false, kinds{mnt, cgroup}, nil},
		"privileged": {Namespaces{}, NamespaceContainer, true, kinds{mnt, net, uts, ipc, pid}, kinds{net, uts, ipc}},
		"users":      {Namespaces{User: userNamespace()}, NamespaceContainer, false, kinds{mnt, users, net, uts, ipc, pid, cgroup}, kinds{users, net, uts, ipc}},
		"node users": {Namespaces{User: &UserNamespace{Mode: NamespaceNode}}, NamespaceContainer, false, kinds{mnt, net, uts, ipc, pid, cgroup}, kinds{net, uts, ipc}},
	} {
		in := input()
		in.Pod.Security.Namespaces = c.pod
		in.Container.Security.Namespaces.PID, in.Container.Security.Privileged = c.pid, c.privileged
		s, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		var all kinds
		for _, n := range s.Linux.Namespaces {
			all = append(all, n.Type)
		}
		if !slices.Equal(all, c.all) {
			t.Errorf("%s: %v, want %v", name, all, c.all)
		}
		if joined := JoinedNamespaces(s, in.Container); !slices.Equal(joined, c.joined) {
			t.Errorf("%s: joined %v, want %v", name, joined, c.joined)
		}
	}
}

func TestResources(t *testing.T) {
	var none *Resources
	for _, r := range []*Resources{none, {}, {OOMScoreAdj: 5}} {
		if got := r.Linux(); !reflect.DeepEqual(got, &specs.LinuxResources{}) {
			t.Errorf("%+v: %+v: something is set", r, got)
		}
	}
	full := &Resources{
		CPUPeriod: 1, CPUQuota: -1, CPUShares: 2, MemoryLimit: 3, CpusetCPUs: "0", CpusetMems: "1",
		Hugepages: []HugepageLimit{{"2MB", 0}}, Unified: map[string]string{"a.b": "c"}, MemorySwap: 4,
	}
	want := &specs.LinuxResources{
		CPU:            &specs.LinuxCPU{Period: ptr(uint64(1)), Quota: ptr(int64(-1)), Shares: ptr(uint64(2)), Cpus: "0", Mems: "1"},
		Memory:         &specs.LinuxMemory{Limit: ptr(int64(3)), Swap: ptr(int64(4))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 0}},
		Unified:        map[string]string{"a.b": "c"},
	}
	got := full.Linux()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	full.Unified["a.b"] = "changed"
	if got.Unified["a.b"] != "c" {
		t.Error("the map is shared")
	}
	// No swap unless it is asked for.
	if got := (&Resources{MemoryLimit: 9}).Linux(); *got.Memory.Swap != 9 {
		t.Errorf("swap is %d", *got.Memory.Swap)
	}
}

func TestDevices(t *testing.T) {
	in := input()
	in.Devices = append(in.Devices, HostDevice{LinuxDevice: specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 99}, Access: "r"})
	nodes := deviceNodes(in)
	if len(nodes) != 7 {
		t.Errorf("%d nodes", len(nodes))
	}
	for _, n := range nodes {
		if n.Path == "/dev/null" && n.Major != 99 {
			t.Error("the client's /dev/null is not the one")
		}
	}
	in.Container.Security.Privileged = true
	if nodes := deviceNodes(in); !slices.ContainsFunc(nodes, func(d specs.LinuxDevice) bool { return d.Path == "/dev/sda" }) {
		t.Error("the host's devices are missing")
	}
	if rules := deviceRules(in); len(rules) != 1 || !rules[0].Allow {
		t.Errorf("rules of a privileged container: %v", rules)
	}
}

func TestExecProcess(t *testing.T) {
	in := input()
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(s)
	p := ExecProcess(s, []string{"sh", "-c", "true"}, true)
	p.Env[0] = "changed"
	if after, _ := json.Marshal(s); string(after) != string(before) {
		t.Error("the container's Spec was changed")
	}
	if !p.Terminal || p.Args[0] != "sh" || !slices.Contains(p.Env, "TERM=xterm") || p.User.UID != 1000 || p.Cwd != "/srv" {
		t.Errorf("process is %+v", p)
	}
	if p := ExecProcess(s, []string{"true"}, false); slices.Contains(p.Env, "TERM=xterm") || p.Terminal {
		t.Errorf("process is %+v", p)
	}
}

// TestBuildIsPure: the same input gives the same Spec, and stays as it was.
func TestBuildIsPure(t *testing.T) {
	in := input()
	before, _ := json.Marshal(in)
	first, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("two Specs from one input")
	}
	if after, _ := json.Marshal(in); string(after) != string(before) {
		t.Error("the input was changed")
	}
}

func BenchmarkBuild(b *testing.B) {
	in := input()
	for b.Loop() {
		if _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}
