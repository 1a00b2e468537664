package cni

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRootHostNetworkPorts has pods on the host's network and others exclude each other, before and after a restart.
func TestRootHostNetworkPorts(t *testing.T) {
	w := newWorld(t, nil)
	node := Attachment{ID: podID("node"), PodName: "node", PodNamespace: "kube-system", Ports: []PortMapping{{HostPort: 8080, ContainerPort: 8080}}}
	if err := w.Reserve(node); err != nil {
		t.Fatal(err)
	}
	w.restart(t)
	a, _ := w.attachment(t, "p", PortMapping{HostPort: 8080, ContainerPort: 80, HostIP: "127.0.0.1"})
	if _, err := w.Add(context.Background(), a); !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), "kube-system/node") {
		t.Errorf("a pod's port that the host's has: %v", err)
	}
	if err := w.Reserve(node); err != nil {
		t.Errorf("again: %v", err)
	}
	for range 2 {
		w.del(t, node)
	}
	if _, err := w.Add(context.Background(), a); err != nil {
		t.Fatal(err)
	}
	if err := w.Reserve(node); !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), "default/p") {
		t.Errorf("the host's port that a pod has: %v", err)
	}
	w.del(t, a)
	if err := w.Reserve(node); err != nil {
		t.Fatal(err)
	}
	if err := w.GC(context.Background(), nil); err != nil { // spares what came since the start
		t.Fatal(err)
	}
	w.restart(t)
	if err := w.GC(context.Background(), nil); err != nil { // and nothing else
		t.Fatal(err)
	}
	w.nothingLeft(t)
}

// TestRootPodAsksForAddresses has the built-in network give what annotations ask for.
func TestRootPodAsksForAddresses(t *testing.T) {
	w := newWorld(t, nil)
	a, _ := w.attachment(t, "p")
	a.Annotations = map[string]string{IPsAnnotation: "10.88.7.7,fd00:88::77", MACAnnotation: "02:00:00:00:07:07"}
	r, err := w.Add(context.Background(), a)
	if err != nil || r.IPs[0].String() != "10.88.7.7" || r.IPs[1].String() != "fd00:88::77" || !strings.Contains(said(t, r), "02:00:00:00:07:07") {
		t.Fatalf("%+v, %v", r, err)
	}
	b, _ := w.attachment(t, "q")
	b.Annotations = map[string]string{IPsAnnotation: "10.88.7.7"}
	if _, err := w.Add(context.Background(), b); err == nil || !strings.Contains(err.Error(), "10.88.7.7") {
		t.Errorf("one address for two: %v", err)
	}
	b.Annotations[IPsAnnotation] = "192.0.2.7"
	if _, err := w.Add(context.Background(), b); err == nil || !strings.Contains(err.Error(), "runtimeConfig.ips[0]") {
		t.Errorf("an address outside: %v", err)
	}
	w.del(t, a)
	w.nothingLeft(t)
}

// TestRootHandlerNetwork attaches pods of a runtime handler to the network of its directory.
func TestRootHandlerNetwork(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, func(c *Config) { c.HandlerConfDirs = map[string]string{"vm": dir} })
	a, _ := w.attachment(t, "p")
	a.Handler = "vm"
	if _, err := w.Add(context.Background(), a); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "vm") || !strings.Contains(err.Error(), dir) {
		t.Errorf("without a configuration: %v", err)
	}
	conf := `{"cniVersion":"1.0.0","name":"vms","plugins":[{"type":"ptp","ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"` + w.dir + `/leases"}}]}`
	if err := os.WriteFile(filepath.Join(dir, "10-vms.conflist"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := w.Add(context.Background(), a)
	if err != nil || r.IPs[0].String() != "10.9.0.2" {
		t.Fatalf("%+v, %v", r, err)
	}
	if p := w.pod(t, "other"); !strings.HasPrefix(p.IPs[0].String(), "10.88.") {
		t.Errorf("a pod of another handler has %s", p.IPs)
	}
	// A lease that nobody holds is collected there too.
	stray := filepath.Join(w.dir, "leases/vms/10.9.0.77")
	if err := os.WriteFile(stray, []byte("nobody\r\neth0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.GC(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("the stray lease: %v", err)
	}
	w.del(t, a)
	w.del(t, Attachment{ID: podID("other")})
	w.nothingLeft(t)
}

// TestRootPtpPods has two pods of a ptp network talk to each other, to the host and by a port of the host, in both families.
func TestRootPtpPods(t *testing.T) {
	w := newWorld(t, nil)
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","dataDir":"`+w.dir+`/leases",
		"ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"fd00:9::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
		{"type":"portmap","capabilities":{"portMappings":true}}]}`)
	one, two := w.pod(t, "one", PortMapping{HostPort: 8080, ContainerPort: 80}), w.pod(t, "two")
	serve(t, one.space, ":80")
	for i := range 2 {
		mustAsk(t, w.host, join(one.IPs[i], 80))
		if from := mustAsk(t, two.space, join(one.IPs[i], 80)); from != two.IPs[i] {
			t.Errorf("asked by %s, not by %s", from, two.IPs[i])
		}
	}
	mustAsk(t, w.host, "127.0.0.1:8080")
	mustAsk(t, two.space, net.JoinHostPort("10.9.0.1", "8080"))
	for _, p := range []*pod{one, two} {
		if err := w.Check(context.Background(), p.Attachment); err != nil {
			t.Error(err)
		}
		w.del(t, p.Attachment)
	}
	// An address that is free again can be given to the next at once.
	w.write(t, "10-net.conflist", strings.Replace(`{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp","ipam":{"type":"static",
		"addresses":[{"address":"IP/24","gateway":"10.9.0.1"}]}}]}`, "IP", one.IPs[0].String(), 1))
	three := w.pod(t, "three")
	serve(t, three.space, ":81")
	mustAsk(t, w.host, join(one.IPs[0], 81))
	w.del(t, three.Attachment)
	w.nothingLeft(t)
}
