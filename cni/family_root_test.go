package cni

import (
	"context"
	"net"
	"testing"
)

// TestRootOneFamily has built-in networks of a single family: pods reach the host, each other and a port of the host, and nothing of the other
// family is set up.
func TestRootOneFamily(t *testing.T) {
	for _, c := range []struct{ subnet, gateway string }{{"10.77.0.0/24", "10.77.0.1"}, {"fd00:77::/64", "fd00:77::1"}} {
		t.Run(c.subnet, func(t *testing.T) {
			w := newWorld(t, func(cfg *Config) { cfg.BuiltinSubnets = []string{c.subnet} })
			if err := w.Status(); err != nil {
				t.Fatal(err)
			}
			web, client := w.pod(t, "web", PortMapping{HostPort: 8080, ContainerPort: 80}), w.pod(t, "client")
			if len(web.IPs) != 1 || web.IPs[0].Is4() != client.IPs[0].Is4() {
				t.Fatalf("addresses %v, %v", web.IPs, client.IPs)
			}
			serve(t, web.space, ":80")
			mustAsk(t, w.host, join(web.IPs[0], 80))
			if from := mustAsk(t, client.space, join(web.IPs[0], 80)); from != client.IPs[0] {
				t.Errorf("asked by %s, not by %s", from, client.IPs[0])
			}
			for _, from := range []*pod{web, client} {
				mustAsk(t, from.space, net.JoinHostPort(c.gateway, "8080"))
			}
			mustAsk(t, w.host, net.JoinHostPort(c.gateway, "8080"))
			if err := w.Check(context.Background(), web.Attachment); err != nil {
				t.Error(err)
			}
			w.del(t, web.Attachment)
			w.del(t, client.Attachment)
			w.nothingLeft(t)
		})
	}
}
