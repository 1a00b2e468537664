package cni

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootReferencePluginsInChain runs a chain whose first plugins are the reference ones as processes, ptp under another name and the static
// that it runs itself, and the others berth's own.
func TestRootReferencePluginsInChain(t *testing.T) {
	reference := referencePlugins(t)
	bin := t.TempDir()
	for name, as := range map[string]string{"ptp": "somebodys-ptp", "static": "static"} {
		if err := os.Symlink(filepath.Join(reference, name), filepath.Join(bin, as)); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, func(c *Config) { c.BinDirs = []string{bin} })
	w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[
		{"type":"somebodys-ptp","capabilities":{"ips":true},"ipam":{"type":"static","routes":[{"dst":"0.0.0.0/0","gw":"10.9.0.1"}],
		 "addresses":[{"address":"10.9.0.2/24","gateway":"10.9.0.1"}]}},
		{"type":"tuning","dataDir":"`+w.dir+`/tuning","mtu":1400,"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}},
		{"type":"bandwidth","capabilities":{"bandwidth":true}},
		{"type":"portmap","capabilities":{"portMappings":true}}]}`)
	if err := w.Status(); err != nil {
		t.Fatal(err)
	}
	a, _ := w.attachment(t, "p", PortMapping{HostPort: 8080, ContainerPort: 80})
	a.Annotations = map[string]string{ingressAnnotation: "10M"}
	r, err := w.Add(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.IPs) != 1 || r.IPs[0].String() != "10.9.0.2" {
		t.Fatalf("addresses %v", r.IPs)
	}
	if looks := hostLooks(t, w.host); !strings.Contains(looks, "tbf rate 1250000 ") {
		t.Errorf("no limit on the host:\n%s", looks)
	}
	serve(t, linktest.Open(t, a.NetNS), ":80")
	mustAsk(t, w.host, "10.9.0.2:80")
	mustAsk(t, w.host, "127.0.0.1:8080")
	if err := w.Check(context.Background(), a); err != nil {
		t.Error(err)
	}
	w.restart(t)
	w.del(t, a)
	w.nothingLeft(t)
}
