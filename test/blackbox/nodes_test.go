package blackbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

const (
	nodeCount = 3
	peerImage = "peer.berth.test/peer:1"
)

// node is one of several hosts: a network namespace, with a daemon of its own in it.
type node struct {
	*harness.Daemon
	space   netns.NsHandle
	host    *netlink.Handle
	port    netlink.Link // the switch's end of its cable
	pod     *harness.Pod
	peer    *harness.Container
	address []string // of its pod, both families
}

// TestRootThreeNodes joins three nodes by a switch, with routes to each other's pods: every pod reaches every pod by its own address, in both
// families. One node is cut off, which the others don't notice, and comes back.
func TestRootThreeNodes(t *testing.T) {
	harness.NeedRoot(t)
	archive := peerArchive(t)
	wire := newSpace(t)
	at, err := netlink.NewHandleAt(wire)
	check(t, err)
	t.Cleanup(at.Close)
	hub := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "hub"}}
	check(t, at.LinkAdd(hub))
	check(t, at.LinkSetUp(hub))
	var nodes []*node
	var before *harness.Daemon
	for i := range nodeCount {
		n := &node{space: newSpace(t)}
		n.plug(t, i, wire, at, hub)
		n.Daemon = harness.Start(t, harness.Options{
			Registry: bed.Server, Beside: before, NetNS: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.space),
			Config: "builtin_direct = [\"10.244.0.0/16\", \"fd00:244::/32\"]\n",
		})
		before = n.Daemon
		out, err := n.Command("--socket", n.Socket, "images", "import", archive).CombinedOutput()
		if err != nil {
			t.Fatalf("import: %v\n%s", err, out)
		}
		n.runPeer(t, i)
		nodes = append(nodes, n)
	}
	settle(nodes) // the switch's and the cables' own duplicate address detection
	reachEachOther(t, nodes)

	last := nodes[nodeCount-1]
	check(t, at.LinkSetDown(last.port))
	reachEachOther(t, nodes[:nodeCount-1])
	for _, answer := range nodes[0].ask(last.address) {
		if slices.Contains(nodes[0].address, answer) {
			t.Errorf("a node without a cable is reached: %s", answer)
		}
	}
	last.Kill() // and restarts while nobody hears it
	last.Restart()
	check(t, at.LinkSetUp(last.port))
	settle(nodes)
	reachEachOther(t, nodes)
}

// settle waits until all pods reach each other once.
func settle(nodes []*node) {
	for _, from := range nodes {
		for _, to := range nodes {
			from.Eventually("pods to reach each other", func() bool { return slices.Equal(from.ask(to.address), from.address) })
		}
	}
}

// reachEachOther has each pod ask all others who asks.
func reachEachOther(t *testing.T, nodes []*node) {
	t.Helper()
	for i, from := range nodes {
		for j, to := range nodes {
			if answers := from.ask(to.address); !slices.Equal(answers, from.address) {
				t.Errorf("pod %d asked pod %d at %s as %s, and was known as %q", i, j, to.address, from.address, answers)
			}
		}
	}
}

// ask returns how the pod was known to those that it asked.
func (n *node) ask(addresses []string) []string {
	args := []string{"/peer", "ask"}
	for _, a := range addresses {
		args = append(args, net.JoinHostPort(a, "80"))
	}
	r, err := n.peer.TryExec(30, args...)
	if err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimSpace(string(r.Stdout)), "\n")
}

// plug gives the node a cable to the switch, addresses, and routes to the others' pods.
func (n *node) plug(t *testing.T, i int, wire netns.NsHandle, at *netlink.Handle, hub netlink.Link) {
	t.Helper()
	var err error
	n.host, err = netlink.NewHandleAt(n.space)
	check(t, err)
	t.Cleanup(n.host.Close)
	end := fmt.Sprint("port", i)
	check(t, at.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: end}, PeerName: "uplink", PeerNamespace: netlink.NsFd(int(n.space))}))
	n.port, err = at.LinkByName(end)
	check(t, err)
	check(t, at.LinkSetMaster(n.port, hub))
	check(t, at.LinkSetUp(n.port))
	uplink, err := n.host.LinkByName("uplink")
	check(t, err)
	for _, a := range []string{nodeAddress4(i) + "/24", nodeAddress6(i) + "/64"} {
		addr, err := netlink.ParseAddr(a)
		check(t, err)
		addr.Flags = 2 // IFA_F_NODAD: nobody else has it
		check(t, n.host.AddrAdd(uplink, addr))
	}
	check(t, n.host.LinkSetUp(uplink))
	lo, err := n.host.LinkByName("lo")
	check(t, err)
	check(t, n.host.LinkSetUp(lo))
	for j := range nodeCount {
		if j == i {
			continue
		}
		for cidr, via := range map[string]string{podCIDR4(j): nodeAddress4(j), podCIDR6(j): nodeAddress6(j)} {
			_, dst, err := net.ParseCIDR(cidr)
			check(t, err)
			check(t, n.host.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}))
		}
	}
}

func nodeAddress4(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }
func nodeAddress6(i int) string { return fmt.Sprintf("2001:db8::%d", i+1) }
func podCIDR4(i int) string     { return fmt.Sprintf("10.244.%d.0/24", i+1) }
func podCIDR6(i int) string     { return fmt.Sprintf("fd00:244:%d::/64", i+1) }

// runPeer gives the node its pod CIDRs, as kubelet does, and runs a pod.
func (n *node) runPeer(t *testing.T, i int) {
	t.Helper()
	_, err := n.Runtime.UpdateRuntimeConfig(n.Context(), &cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{
		NetworkConfig: &cri.NetworkConfig{PodCidr: podCIDR4(i) + "," + podCIDR6(i)},
	}})
	check(t, err)
	n.pod = n.RunPod(n.PodConfig("peer"))
	config := harness.ContainerConfig("peer", "")
	config.Image.Image, config.Command = peerImage, nil
	n.peer = n.pod.Run(config)
	n.address = []string{n.pod.IP(), n.pod.Status().Network.AdditionalIps[0].Ip}
	for k, cidr := range []string{podCIDR4(i), podCIDR6(i)} {
		if _, subnet, err := net.ParseCIDR(cidr); err != nil || !subnet.Contains(net.ParseIP(n.address[k])) {
			t.Errorf("pod %d has %s, which is not of %s", i, n.address[k], cidr)
		}
	}
	n.Eventually("the pod to serve", func() bool { return slices.Equal(n.ask(n.address), n.address) })
}

// newSpace makes a network namespace, which ends with the test.
func newSpace(t *testing.T) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread() // its thread goes back: it may be the process's first, which others look at
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	check(t, err)
	defer home.Close()
	space, err := netns.New()
	check(t, err)
	check(t, netns.Set(home))
	t.Cleanup(func() { _ = space.Close() })
	return space
}

// peerArchive is an image for nodes that reach no registry.
func peerArchive(t *testing.T) string {
	t.Helper()
	program, err := images.Program("test/images/programs/peer")
	check(t, err)
	img, err := images.Single(new(images.Tree).File("peer", 0o755, program), v1.Config{Cmd: []string{"/peer"}})
	check(t, err)
	tag, err := name.NewTag(peerImage)
	check(t, err)
	path := filepath.Join(t.TempDir(), "peer.tar")
	check(t, tarball.WriteToFile(path, tag, img))
	return path
}
