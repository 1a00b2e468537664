package kubelet

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/berth-runtime/berth/test/harness"
)

// fetch is what a web server answers.
func fetch(address string) (string, error) {
	c := http.Client{Timeout: 10 * time.Second}
	defer c.CloseIdleConnections()
	r, err := c.Get("http://" + address + "/")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return strings.TrimSpace(string(text)), err
}

// addresses are a pod's own and its port of the host's.
func addresses(t *testing.T, n *Node) {
	port := harness.FreePort(t)
	p := n.Run(t, "addresses", fmt.Sprintf(`
spec:
  terminationGracePeriodSeconds: 1
  hostAliases: [{ip: 192.0.2.7, hostnames: [alias.test]}]
  hostname: web
  subdomain: sub
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [one.test, two.test], options: [{name: ndots, value: '3'}]}
  securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '70'}, {name: net.core.somaxconn, value: '777'}]}
  containers:
  - {name: web, image: NGINX, ports: [{containerPort: 80, hostPort: %d}], readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}}
  - {name: shell, image: BUSYBOX, command: [sleep, '1000']}
`, port))
	s := p.Ready()
	want(t, "addresses", len(s.Status.PodIPs), 2)
	if s.Status.PodIP == "" || s.Status.PodIP == s.Status.HostIP {
		t.Errorf("the pod's address is %q, the host's %q", s.Status.PodIP, s.Status.HostIP)
	}
	for _, address := range []string{s.Status.PodIP, fmt.Sprintf("127.0.0.1:%d", port)} {
		if text, err := fetch(address); text != "hello from web" {
			t.Errorf("%s answers %q (%v)", address, text, err)
		}
	}
	want(t, "over loopback", p.Exec("shell", "wget -q -O - http://127.0.0.1/"), "hello from web")
	want(t, "alias", p.Exec("shell", "grep alias.test /etc/hosts | tr '\t' ' '"), "192.0.2.7 alias.test")
	if text := p.Exec("shell", "cat /etc/hosts"); !strings.Contains(text, s.Status.PodIP+"\tweb") {
		t.Errorf("the pod is not in its own /etc/hosts:\n%s", text)
	}
	want(t, "resolv.conf", p.Exec("shell", "cat /etc/resolv.conf"), "search one.test two.test\nnameserver 192.0.2.53\noptions ndots:3")
	want(t, "sysctls", p.Exec("shell", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/core/somaxconn"), "70\n777")
	forward(t, p, 80)
	p.Remove()
	if text, err := fetch(fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		t.Errorf("the host's port still answers: %q", text)
	}
}

// forward fetches from a port of the pod's through kubelet's port-forward. The first message of each channel is the port.
func forward(t *testing.T, p *Pod, port int) {
	t.Helper()
	conn, err := p.node.dial(fmt.Sprintf("/portForward/test/%s?port=%d", p.fullName(), port), "v4.channel.k8s.io")
	p.must(err)
	defer conn.Close()
	p.must(send(conn, 0, []byte("GET / HTTP/1.0\r\n\r\n")))
	var text strings.Builder
	for !strings.Contains(text.String(), "hello from web") {
		var message []byte
		if err := websocket.Message.Receive(conn, &message); err != nil {
			t.Fatalf("port-forward brought %q: %v", text.String(), err)
		}
		if len(message) > 1 && message[0] == 1 && len(message) > 3 {
			t.Fatalf("port-forward: %s", message[1:])
		}
		text.Write(message[1:])
	}
}

// hosts is a pod that has no namespaces of its own.
func hosts(t *testing.T, n *Node) {
	port := harness.FreePort(t)
	p := n.Run(t, "hosts", fmt.Sprintf(`
spec:
  terminationGracePeriodSeconds: 1
  hostNetwork: true
  hostPID: true
  hostIPC: true
  containers:
  - {name: web, image: NGINX, env: [{name: PORT, value: '%d'}], ports: [{containerPort: %[1]d}], readinessProbe: {httpGet: {port: %[1]d}, periodSeconds: 1}}
  - {name: shell, image: BUSYBOX, command: [sleep, '1000']}
`, port))
	s := p.Ready()
	want(t, "address", s.Status.PodIP, s.Status.HostIP)
	if text, err := fetch(fmt.Sprintf("127.0.0.1:%d", port)); err != nil || !strings.HasPrefix(text, "hello from ") {
		t.Errorf("the server answers %q (%v)", text, err)
	}
	for _, ns := range []string{"net", "pid", "ipc"} {
		want(t, "namespace "+ns, p.Exec("shell", "readlink /proc/self/ns/"+ns), readlink(t, "/proc/self/ns/"+ns))
	}
}
