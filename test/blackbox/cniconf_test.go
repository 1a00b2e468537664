package blackbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// networkReady is the condition, and the reason's message when it is not met.
func networkReady(t *testing.T, d *harness.Daemon) (bool, string) {
	t.Helper()
	s, err := d.Runtime.Status(d.Context(), &cri.StatusRequest{})
	check(t, err)
	for _, c := range s.Status.Conditions {
		if c.Type == "NetworkReady" {
			return c.Status, c.Message
		}
	}
	t.Fatal("no condition NetworkReady")
	return false, ""
}

// configure gives the daemon a network configuration as careful programs do: beside, and then by rename.
func configure(t *testing.T, d *harness.Daemon, name, text string) {
	t.Helper()
	path := filepath.Join(d.Dir, "net.d", name)
	check(t, os.WriteFile(path+".tmp", []byte(text), 0o644))
	check(t, os.Rename(path+".tmp", path))
}

// TestRootCNIConfiguration changes a running daemon's network by its configuration directory: files that are replaced, are garbage, ask for what is
// not there, and a directory that is removed and made again. Pods that run keep what they have.
func TestRootCNIConfiguration(t *testing.T) {
	d := start(t, images.Busybox, images.Nginx)
	octet := 10 + os.Getpid()%200
	subnet := func(i int) string { return fmt.Sprintf("10.%d.%d.0/24", octet, i) }
	ptp := func(i int) string {
		return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net%d","plugins":[{"type":"ptp","ipMasq":true,
			"ipam":{"type":"host-local","dataDir":"%s/leases","subnet":"%s","routes":[{"dst":"0.0.0.0/0"}]}},
			{"type":"tuning","dataDir":"%[2]s/tuning","mtu":1400},
			{"type":"bandwidth","capabilities":{"bandwidth":true}},{"type":"portmap","capabilities":{"portMappings":true}}]}`, i, d.State, subnet(i))
	}
	in := func(ip, subnet string) {
		t.Helper()
		if _, n, err := net.ParseCIDR(subnet); err != nil || !n.Contains(net.ParseIP(ip)) {
			t.Errorf("%s is not of %s", ip, subnet)
		}
	}
	configure(t, d, "10-net.conflist", ptp(1))
	port := harness.FreePort(t)
	config := d.PodConfig("web")
	config.PortMappings = []*cri.PortMapping{{Protocol: cri.Protocol_TCP, ContainerPort: 80, HostPort: int32(port)}}
	config.Annotations = map[string]string{"kubernetes.io/egress-bandwidth": "100M"}
	web := d.RunPod(config)
	web.Run(webConfig())
	in(web.IP(), subnet(1))
	want(t, "page by the pod's address", page(t, d, net.JoinHostPort(web.IP(), "80")), "hello from web")
	want(t, "page by the host's port", page(t, d, fmt.Sprintf("127.0.0.1:%d", port)), "hello from web")
	other := d.RunPod(d.PodConfig("other")).Run(harness.ContainerConfig("c", harness.Sleep))
	want(t, "page from another pod", other.Exec("wget -qO- http://"+web.IP()+"/"), "hello from web")
	if link := other.Exec("ip link show eth0"); !strings.Contains(link, "mtu 1400") {
		t.Errorf("the chain's MTU is not in %s", link)
	}

	configure(t, d, "10-net.conflist", ptp(2))
	in(d.RunPod(d.PodConfig("second")).IP(), subnet(2))
	want(t, "the first pod's page", page(t, d, net.JoinHostPort(web.IP(), "80")), "hello from web")

	for text, word := range map[string]string{`{"cniVersion"`: "10-net.conflist", `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"nonesuch"}]}`: "nonesuch"} {
		configure(t, d, "10-net.conflist", text)
		d.Eventually("the network not to be ready", func() bool { ready, _ := networkReady(t, d); return !ready })
		if _, message := networkReady(t, d); !strings.Contains(message, word) {
			t.Errorf("%q does not name %s", message, word)
		}
		_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: d.PodConfig("refused")})
		wantError(t, err, codes.Unavailable, word)
	}
	check(t, os.RemoveAll(filepath.Join(d.Dir, "net.d")))
	d.Eventually("the built-in network", func() bool { ready, _ := networkReady(t, d); return ready })
	in(d.RunPod(d.PodConfig("builtin")).IP(), d.Subnet)
	check(t, os.Mkdir(filepath.Join(d.Dir, "net.d"), 0o755))
	configure(t, d, "10-net.conflist", ptp(3))
	in(d.RunPod(d.PodConfig("third")).IP(), subnet(3))

	web.Stop()
	leases, err := filepath.Glob(d.State + "/leases/net1/10.*")
	if err != nil || len(leases) != 1 {
		t.Errorf("leases of the first network %v, %v; wanted the other pod's", leases, err)
	}
}
