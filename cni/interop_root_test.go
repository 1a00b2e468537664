package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// interopEnv, when set, is a folder with the reference plugins' binaries, or "build" to have them built with `go install` from the
// module proxy. Without it the tests of taking over are skipped: they need the network.
const interopEnv = "BERTH_TEST_CNI_PLUGINS"

const pluginsModule = "github.com/containernetworking/plugins"

func referencePlugins(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(interopEnv)
	if dir == "" {
		t.Skipf("needs the reference plugins: set %s to their folder, or to build", interopEnv)
	}
	if dir != "build" {
		return dir
	}
	dir, err := builtPlugins()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// builtPlugins builds the reference plugins once; TestMain removes them.
var builtPlugins = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "berth-test-plugins-")
	if err != nil {
		return "", err
	}
	var packages []string
	for _, p := range []string{
		"main/bridge", "main/loopback", "main/ptp", "main/macvlan", "main/ipvlan", "main/vlan", "main/host-device",
		"ipam/host-local", "ipam/static", "ipam/dhcp", "meta/bandwidth", "meta/tuning", "meta/portmap", "meta/firewall",
	} {
		packages = append(packages, pluginsModule+"/plugins/"+p+"@v1.9.1")
	}
	cmd := exec.Command("go", append([]string{"install"}, packages...)...)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the reference plugins: %w\n%s", err, out), os.RemoveAll(dir))
	}
	pluginsDir = dir
	return dir, nil
})

// pluginsDir is what builtPlugins has made.
var pluginsDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if pluginsDir != "" {
		_ = os.RemoveAll(pluginsDir)
	}
	os.Exit(code)
}

// side is one of the two that can work on a pod: berth's plugins in process, or the reference plugins as processes.
type side struct {
	name string
	cni  func(pod *link.Space) *libcni.CNIConfig
}

func TestRootTakeOver(t *testing.T) {
	bin := referencePlugins(t)
	w := newWorld(t, func(c *Config) { c.BinDirs = []string{bin} })
	cache := t.TempDir()
	conf := `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"loopback"},{"type":"bridge","bridge":"br-inter","isDefaultGateway":true,
		"hairpinMode":true,"mtu":1400,"ipam":{"type":"host-local","dataDir":"` + w.dir + `/leases","routes":[{"dst":"198.51.100.0/24"}],
		"ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"fd00:9::/64"}]]}}]}`
	list, err := libcni.NetworkConfFromBytes([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	ours := side{"ours", func(pod *link.Space) *libcni.CNIConfig {
		return libcni.NewCNIConfigWithCacheDir([]string{bin}, cache, &executor{plugins: w.run.plugins, pod: pod})
	}}
	theirs := side{"theirs", func(*link.Space) *libcni.CNIConfig {
		return libcni.NewCNIConfigWithCacheDir([]string{bin}, cache, nil)
	}}
	shapes := map[string]string{}
	var used []string
	for i, way := range [][2]side{{ours, theirs}, {theirs, ours}, {ours, ours}, {theirs, theirs}} {
		add, del := way[0], way[1]
		t.Run(add.name+" then "+del.name, func(t *testing.T) {
			runtimeHere(t, w.host)
			path, _ := linktest.Pod(t)
			pod := linktest.Open(t, path)
			rt := &libcni.RuntimeConf{ContainerID: fmt.Sprintf("c%d", i), NetNS: path, IfName: "eth0", Args: [][2]string{{"IgnoreUnknown", "1"}}}
			r, err := add.cni(pod).AddNetworkList(context.Background(), list, rt)
			if err != nil {
				t.Fatalf("add: %v", err)
			}
			result, err := types100.NewResultFromResult(r)
			if err != nil {
				t.Fatal(err)
			}
			used = append(used, result.IPs[0].Address.IP.String())
			podif.Reachable(context.Background(), pod, "eth0", []netip.Addr{link.Prefix(result.IPs[1].Address).Addr()})
			serve(t, pod, ":80")
			mustAsk(t, w.host, join(link.Prefix(result.IPs[0].Address).Addr(), 80))
			mustAsk(t, w.host, join(link.Prefix(result.IPs[1].Address).Addr(), 80))
			shapes[add.name] = shape(t, pod, result)
			for _, s := range []side{ours, theirs} {
				if err := s.cni(pod).CheckNetworkList(context.Background(), list, rt); err != nil {
					t.Errorf("check by %s: %v", s.name, err)
				}
			}
			if err := del.cni(pod).DelNetworkList(context.Background(), list, rt); err != nil {
				t.Fatalf("del: %v", err)
			}
			left, _ := filepath.Glob(filepath.Join(w.dir, "leases/net/[1f]*"))
			if len(left) > 0 {
				t.Errorf("leases left: %v", left)
			}
		})
	}
	if shapes["ours"] != shapes["theirs"] {
		t.Errorf("a pod of ours:\n%s\none of theirs:\n%s", shapes["ours"], shapes["theirs"])
	}
	if got := strings.Join(used, " "); got != "10.9.0.2 10.9.0.3 10.9.0.4 10.9.0.5" {
		t.Errorf("addresses went round as %s", got)
	}
	l, _ := w.host.Link("br-inter")
	if err := w.host.DeleteAt(l.Attrs().Index); err != nil {
		t.Fatal(err)
	}
}

// runtimeHere puts a subtest's goroutine into the host's namespace, where the plugin processes must start.
func runtimeHere(t *testing.T, host *link.Space) {
	t.Helper()
	if err := enter(host); err != nil {
		t.Fatal(err)
	}
}

// shape is what can be compared of two pods: names, kinds, MTU, number of addresses and routes, without what is random.
func shape(t *testing.T, pod *link.Space, r *types100.Result) string {
	t.Helper()
	var b strings.Builder
	for i, n := range r.Interfaces {
		name := n.Name
		if strings.HasPrefix(name, "veth") {
			name = "veth"
		}
		fmt.Fprintf(&b, "interface %d %s mac=%t sandbox=%t\n", i, name, n.Mac != "", n.Sandbox != "")
	}
	for _, ip := range r.IPs {
		ones, _ := ip.Address.Mask.Size()
		fmt.Fprintf(&b, "ip /%d of %d gateway %s\n", ones, *ip.Interface, ip.Gateway)
	}
	for _, route := range r.Routes {
		fmt.Fprintf(&b, "route %s via %s\n", route.Dst.String(), route.GW)
	}
	eth0, err := pod.Link("eth0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "eth0 mtu %d up %t\n", eth0.Attrs().MTU, eth0.Attrs().Flags&1 != 0)
	routes, err := pod.Netlink().RouteList(eth0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range routes {
		src := ""
		if route.Src != nil {
			src = " with a source"
		}
		fmt.Fprintf(&b, "kernel route %s via %s metric %d%s\n", route.Dst, route.Gw, route.Priority, src)
	}
	return b.String()
}
