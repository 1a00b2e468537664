package imports

// Module is the path that all packages begin with.
const Module = "github.com/berth-runtime/berth"

// Edge allows room From to import room To. A room is a directory with what is below
// it, less the rooms of their own there.
type Edge struct{ From, To, Why string }

// Edges are all that are allowed.
var Edges = []Edge{
	{"cmd/berth", "cri", "main wires every room: the door"},
	{"cmd/berth", "sandbox", "main wires every room: the life cycle"},
	{"cmd/berth", "sandbox/keeper", "main wires every room: the keeper's client"},
	{"cmd/berth", "oci", "main wires every room: what compiles launch programs"},
	{"cmd/berth", "oci/selinux", "and what the image store is labelled with"},
	{"cmd/berth", "oci/cgroup", "main wires every room: the cgroup tree"},
	{"cmd/berth", "oci/criu", "main wires every room: the program that checkpoints need"},
	{"cmd/berth", "cni", "main wires every room: the network"},
	{"cmd/berth", "imagestore", "main wires every room: the images"},
	{"cmd/berth-keeper", "sandbox/keeper", "the keeper is that and nothing more"},

	{"cmd/berth", "nri", "main wires every room: the plugins' interface"},
	{"nri", "sandbox", "plugins are told of its steps, and shown its pods"},
	{"nri", "sandbox/spec", "plugins see what pods and containers are made from"},

	{"cri", "sandbox", "the door asks for pods and containers"},
	{"cri", "sandbox/spec", "the door decodes requests into these"},
	{"cri", "imagestore", "the door asks for images"},

	{"sandbox", "sandbox/spec", "what pods and containers are made from"},
	{"sandbox", "sandbox/keeper", "processes are launched and kept there"},
	{"sandbox", "oci", "containers become programs there"},
	{"sandbox", "oci/cgroup", "a container's limits and its end"},
	{"sandbox", "oci/seccomp", "the default profile"},
	{"sandbox", "oci/apparmor", "the default profile there, and whether others are loaded"},
	{"sandbox", "oci/launch", "when a launch did what: its part of a timeline"},
	{"sandbox", "oci/program", "what the steps of a timeline are called"},
	{"sandbox", "oci/selinux", "the labels of pods and of their volumes"},
	{"sandbox", "oci/criu", "containers are dumped and restored"},
	{"sandbox", "oci/mount", "/dev/shm is made, and a network namespace pinned"},
	{"sandbox", "cni", "a pod's place in the network"},
	{"sandbox", "imagestore", "a container's root file system"},

	{"sandbox/keeper", "oci/launch", "the keeper runs programs"},
	{"sandbox/keeper", "oci/program", "and reads them from the wire"},

	{"oci", "oci/program", "specs are compiled to programs"},
	{"oci", "oci/launch", "whose errors are explained"},
	{"oci", "oci/cgroup", "a program enters a cgroup"},
	{"oci", "oci/seccomp", "a program loads a filter"},
	{"oci", "oci/mount", "binds are prepared as detached mounts"},
	{"oci/launch", "oci/program", "programs are what it runs"},
	{"oci/mount", "oci/program", "mount options have one meaning"},
}

// rooms are the directories that have walls, found by longest prefix.
var rooms = []string{
	"cmd/berth", "cmd/berth-keeper", "cri", "nri", "sandbox", "sandbox/spec", "sandbox/keeper",
	"oci", "oci/program", "oci/launch", "oci/mount", "oci/cgroup", "oci/criu", "oci/seccomp", "oci/apparmor", "oci/selinux", "cni", "imagestore", "test", "hack",
}

// Library allows packages below Path in Rooms only.
type Library struct {
	Path  string
	Rooms []string
	Why   string
}

// Libraries are those that would tear down a wall elsewhere.
var Libraries = []Library{
	{"k8s.io/cri-api", []string{"cri", "cmd/berth"}, "nothing of CRI leaks below its door; the operator's command is a client"},
	{"k8s.io/cri-streaming", []string{"cri"}, "streams come in by the same door"},
	{"google.golang.org/grpc", []string{"cri", "cmd/berth"}, "so is gRPC the door's"},
	{"google.golang.org/protobuf", []string{"cri", "cmd/berth", "oci/criu"}, "nothing below the door stores protobuf; criu is spoken to by it"},
	{"github.com/containernetworking/cni", []string{"cni"}, "the network room alone speaks CNI"},
	{"github.com/containerd/containerd/v2", []string{"imagestore"}, "for its registry client, and its writer of layers"},
	{"github.com/containerd/containerd/api", []string{"cri"}, "what cAdvisor asks by"},
	{"github.com/checkpoint-restore/go-criu", []string{"oci/criu"}, "criu is spoken to in one place"},
	{"github.com/containerd/nri", []string{"nri"}, "plugins come in by one door"},
	{"go.opentelemetry.io", []string{"cri"}, "requests are traced at the door"},
	{"github.com/containerd/cgroups", []string{"oci/cgroup"}, "cgroups are reached in one place"},
	{"github.com/vishvananda/netlink", []string{"cni"}, "links are the network room's"},
	{"github.com/google/nftables", []string{"cni", "cmd/berth"}, "so are packet filter rules; berth check asks whether the node has them"},
	{"golang.org/x/sys", []string{
		"cmd/berth", "sandbox", "sandbox/spec", "sandbox/keeper", "oci", "oci/program", "oci/launch", "oci/mount", "oci/cgroup", "oci/criu", "oci/seccomp", "oci/selinux", "cni", "imagestore",
	}, "the kernel is reached in few places; sandbox/spec has its constants, and reads the node's devices"},
	{"github.com/opencontainers/selinux", []string{"oci/selinux"}, "labels are chosen in one place"},
	{"tags.cncf.io/container-device-interface", []string{"sandbox/spec"}, "what CDI devices add is found beside what the host's are"},
	{"go.etcd.io/bbolt", []string{"imagestore"}, "records of pods are files; only images have a database"},
	{"github.com/google/go-containerregistry", nil, "the test bed's"},
}

// codesFile alone may import grpc/codes: errors become codes in one table.
const codesFile = "cri/status.go"

// NotInKeeper are never linked into berth-keeper: it stays small and parses nothing.
var NotInKeeper = []string{
	"google.golang.org/grpc", "google.golang.org/protobuf", "net/http", "crypto/tls",
	"k8s.io/", "github.com/containerd/", "github.com/containernetworking/", "github.com/vishvananda/netlink", "github.com/google/nftables",
}
