package blackbox

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// webConfig is a container that serves its host name on port 80, as the image has it.
func webConfig() *cri.ContainerConfig {
	config := harness.ContainerConfig("web", "")
	config.Image.Image, config.Command = images.Nginx, nil
	return config
}

// page fetches a page, once it is served.
func page(t *testing.T, d *harness.Daemon, address string) string {
	t.Helper()
	d.Listening(address)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + address + "/")
	check(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	check(t, err)
	want(t, "HTTP status", r.StatusCode, http.StatusOK)
	return strings.TrimSpace(string(text))
}

func TestRootPodNetwork(t *testing.T) {
	d := start(t, images.Busybox, images.Nginx)
	one, two := d.RunPod(d.PodConfig("one")), d.RunPod(d.PodConfig("two"))
	one.Run(webConfig())
	want(t, "page from the host", page(t, d, net.JoinHostPort(one.IP(), "80")), "hello from one")

	// Two containers of a pod share its network; pods reach each other and the host.
	beside := one.Run(harness.ContainerConfig("beside", harness.Sleep))
	want(t, "page from beside", beside.Exec("wget -qO- http://127.0.0.1/"), "hello from one")
	far := two.Run(harness.ContainerConfig("far", harness.Sleep))
	want(t, "page from another pod", far.Exec("wget -qO- http://"+one.IP()+"/"), "hello from one")
	subnet := netip.MustParsePrefix(d.Subnet)
	for _, p := range []*harness.Pod{one, two} {
		ip, err := netip.ParseAddr(p.IP())
		if err != nil || !subnet.Contains(ip) {
			t.Errorf("address %s is not of %s: %v", ip, subnet, err)
		}
		if more := p.Status().Network.AdditionalIps; len(more) != 1 || !netip.MustParseAddr(more[0].Ip).Is6() {
			t.Errorf("additional addresses %v, wanted one of IPv6", more)
		} else {
			want(t, "page by IPv6", page(t, d, net.JoinHostPort(one.Status().Network.AdditionalIps[0].Ip, "80")), "hello from one")
		}
	}
	if one.IP() == two.IP() {
		t.Errorf("both pods have %s", one.IP())
	}
	addresses := beside.Exec("ip -o addr")
	for _, s := range []string{"127.0.0.1/8", one.IP() + "/24"} {
		if !strings.Contains(addresses, s) {
			t.Errorf("no %s in\n%s", s, addresses)
		}
	}
	gateway := subnet.Addr().Next().String()
	if routes := beside.Exec("ip route"); !strings.Contains(routes, "default via "+gateway) {
		t.Errorf("no default route by %s in\n%s", gateway, routes)
	}
	// The pin is where foreign agents look, and is the namespace the containers are in.
	pin, err := os.Stat("/run/netns/berth-" + one.ID)
	check(t, err)
	inode := beside.Exec("readlink /proc/self/ns/net")
	want(t, "namespace", inode, fmt.Sprintf("net:[%d]", inodeOf(pin)))
	one.Stop()
	if _, err := os.Stat("/run/netns/berth-" + one.ID); !os.IsNotExist(err) {
		t.Errorf("the pin after the stop: %v", err)
	}
}

func TestRootHostPorts(t *testing.T) {
	d := start(t, images.Busybox, images.Nginx)
	tcp, local, udp := harness.FreePort(t), harness.FreePort(t), harness.FreePort(t)
	config := d.PodConfig("ports")
	config.PortMappings = []*cri.PortMapping{
		{Protocol: cri.Protocol_TCP, ContainerPort: 80, HostPort: int32(tcp)},
		{Protocol: cri.Protocol_TCP, ContainerPort: 80, HostPort: int32(local), HostIp: "127.0.0.1"},
		{Protocol: cri.Protocol_UDP, ContainerPort: 5353, HostPort: int32(udp)},
		{Protocol: cri.Protocol_TCP, ContainerPort: 8080}, // documents a port, publishes nothing
	}
	pod := d.RunPod(config)
	pod.Run(webConfig())
	other := d.RunPod(d.PodConfig("other")).Run(harness.ContainerConfig("c", harness.Sleep))
	echo := pod.Run(harness.ContainerConfig("udp", "nc -u -l -p 5353 -e cat"))
	d.Listening(net.JoinHostPort(pod.IP(), "80"))
	want(t, "page by 127.0.0.1", page(t, d, fmt.Sprintf("127.0.0.1:%d", tcp)), "hello from ports")
	gateway := netip.MustParsePrefix(d.Subnet).Addr().Next().String()
	want(t, "page by another address of the host", page(t, d, fmt.Sprintf("%s:%d", gateway, tcp)), "hello from ports")
	want(t, "page by the port of 127.0.0.1 only", page(t, d, fmt.Sprintf("127.0.0.1:%d", local)), "hello from ports")
	if conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", gateway, local), time.Second); err == nil {
		conn.Close()
		t.Error("the port of 127.0.0.1 is reached at another address")
	}
	want(t, "page from another pod by the host's port", other.Exec(fmt.Sprintf("wget -qO- http://%s:%d/", gateway, tcp)), "hello from ports")
	inside := pod.Run(harness.ContainerConfig("inside", harness.Sleep))
	want(t, "page from the pod itself by the host's port", inside.Exec(fmt.Sprintf("wget -qO- http://%s:%d/", gateway, tcp)), "hello from ports")
	udpEcho(t, d, udp)
	_ = echo

	taken := d.PodConfig("taken")
	taken.PortMappings = config.PortMappings[:1]
	_, err := d.Runtime.RunPodSandbox(d.Context(), &cri.RunPodSandboxRequest{Config: taken})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(tcp)) {
		t.Errorf("a second pod on port %d: %v", tcp, err)
	}
	pod.Remove()
	if conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", tcp), time.Second); err == nil {
		conn.Close()
		t.Error("the port is open after the pod's end")
	}
	d.RunPod(taken) // and free for another
}

// udpEcho has a datagram echoed by way of a port of the host.
func udpEcho(t *testing.T, d *harness.Daemon, port int) {
	t.Helper()
	d.Eventually("the echo of a datagram", func() bool {
		conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
		check(t, err)
		defer conn.Close()
		if _, err := conn.Write([]byte("ping\n")); err != nil {
			return false
		}
		check(t, conn.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		answer := make([]byte, 16)
		n, err := conn.Read(answer)
		return err == nil && string(answer[:n]) == "ping\n"
	})
}

func TestRootHostNetwork(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("host")))
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	own, err := os.Readlink("/proc/self/ns/net")
	check(t, err)
	want(t, "network namespace", c.Exec("readlink /proc/self/ns/net"), own)
	want(t, "network mode", pod.Status().Linux.Namespaces.Options.Network, cri.NamespaceMode_NODE)
	want(t, "address", pod.Status().Network.GetIp(), "")
	name, err := os.Hostname()
	check(t, err)
	want(t, "host name", c.Exec("hostname"), name)
	port := harness.FreePort(t)
	pod.Run(harness.ContainerConfig("serve", fmt.Sprintf("while :; do echo from the host network | nc -l -p %d; done", port)))
	d.Listening(fmt.Sprintf("127.0.0.1:%d", port))
}

func TestRootPodFiles(t *testing.T) {
	d := start(t)
	config := d.PodConfig("files")
	config.DnsConfig = &cri.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"a.example", "b.example"}, Options: []string{"ndots:5"}}
	pod := d.RunPod(config)
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	want(t, "resolv.conf", c.Exec("cat /etc/resolv.conf"), "search a.example b.example\nnameserver 192.0.2.53\noptions ndots:5")
	want(t, "/etc/hostname", c.Exec("cat /etc/hostname"), "files")
	if hosts := c.Exec("cat /etc/hosts"); !strings.Contains(hosts, "127.0.0.1") {
		t.Errorf("/etc/hosts is\n%s", hosts)
	}
	want(t, "/dev/shm", c.Exec("stat -f -c %T /dev/shm; stat -c %a /dev/shm"), "tmpfs\n1777")
	// The pod's containers share /dev/shm.
	c.Exec("echo shared > /dev/shm/f")
	want(t, "/dev/shm in another container", pod.Run(harness.ContainerConfig("d", harness.Sleep)).Exec("cat /dev/shm/f"), "shared")
	plain := d.RunPod(d.PodConfig("plain")).Run(harness.ContainerConfig("c", harness.Sleep))
	own, err := os.ReadFile("/etc/resolv.conf")
	if err == nil {
		want(t, "resolv.conf without a DNS configuration", plain.Exec("cat /etc/resolv.conf"), strings.TrimSpace(string(own)))
	}
}
