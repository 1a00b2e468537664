package cni

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// TestRootDelOfWhatIsHalfGone takes one thing of a pod away that its DEL would look for: it is released all the same, twice, with the rest, and its
// neighbour stays.
func TestRootDelOfWhatIsHalfGone(t *testing.T) {
	w := newWorld(t, nil)
	w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[
		{"type":"bridge","bridge":"br-half","isDefaultGateway":true,"ipMasq":true,"macspoofchk":true,
		 "ipam":{"type":"host-local","dataDir":"`+w.dir+`/leases","ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"fd00:9::/64"}]]}},
		{"type":"tuning","dataDir":"`+w.dir+`/tuning","mtu":1400},
		{"type":"bandwidth","ingressRate":8000000,"ingressBurst":8000000,"egressRate":8000000,"egressBurst":8000000},
		{"type":"firewall"},
		{"type":"portmap","capabilities":{"portMappings":true}}]}`)
	neighbour := w.pod(t, "neighbour", PortMapping{HostPort: 8081, ContainerPort: 80})
	serve(t, neighbour.space, ":80")
	for _, c := range partsOfAPod(t, w) {
		p := w.pod(t, "p", PortMapping{HostPort: 8080, ContainerPort: 80})
		if err := c.take(p); err != nil {
			t.Fatalf("take %s: %v", c.what, err)
		}
		for range 2 {
			if err := w.Del(context.Background(), p.Attachment); err != nil {
				t.Errorf("without %s: %v", c.what, err)
			}
		}
		if c.what != "the namespace" {
			if l, err := p.space.Link("eth0"); err == nil && l != nil && l.Attrs().ParentIndex != 0 && !w.fabric.reaper.Has(l.Attrs().ParentIndex) {
				t.Errorf("without %s: the pod keeps its interface", c.what)
			}
			p.remove()
		}
		for _, path := range []string{"attachments/" + p.ID + ".json", "results/net-" + p.ID + "-eth0", "leases/net/" + p.IPs[0].String()} {
			if _, err := os.Stat(filepath.Join(w.dir, path)); !os.IsNotExist(err) {
				t.Errorf("without %s: %s is left: %v", c.what, path, err)
			}
		}
		if !c.all {
			mustAsk(t, w.host, "127.0.0.1:8081")
		}
	}
	w.del(t, neighbour.Attachment)
	w.rolledBack(t, neighbour.space, "br-half")
}

// part is something of a pod that its DEL looks for.
type part struct {
	what string
	take func(*pod) error
	all  bool // the neighbour loses it, too
}

func partsOfAPod(t *testing.T, w *world) []part {
	gone := func(path ...string) func(*pod) error {
		return func(*pod) error { return os.RemoveAll(filepath.Join(append([]string{w.dir}, path...)...)) }
	}
	link := func(name string) func(*pod) error {
		return func(*pod) error {
			l, err := w.host.Link(name)
			if err != nil || l == nil {
				return fmt.Errorf("interface %s: %v, %w", name, l, err)
			}
			return w.host.DeleteAt(l.Attrs().Index)
		}
	}
	return []part{
		{"the namespace", func(p *pod) error { p.remove(); return p.space.Close() }, false},
		{"a lease", func(p *pod) error { return os.Remove(filepath.Join(w.dir, "leases/net", p.IPs[0].String())) }, false},
		{"the address", func(p *pod) error {
			eth0, err := p.space.Index("eth0")
			if err != nil {
				return err
			}
			return p.space.DeleteAddress(eth0, netip.PrefixFrom(p.IPs[0], 24))
		}, false},
		{"the interface", func(p *pod) error {
			eth0, err := p.space.Index("eth0")
			if err != nil {
				return err
			}
			return p.space.DeleteAt(eth0)
		}, false},
		{"the cached result", func(p *pod) error { return os.Remove(filepath.Join(w.dir, "results", "net-"+p.ID+"-eth0")) }, false},
		{"the record", func(p *pod) error { return w.book.intents.remove(p.ID) }, false},
		{"its ports", func(p *pod) error { return w.fabric.tables.Release("net", p.ID+"/eth0") }, false},
		{"what tuning noted", gone("tuning"), false},
		{"all rules", func(*pod) error {
			conn := w.nftables(t)
			conn.FlushRuleset()
			return conn.Flush()
		}, true},
		{"all leases", gone("leases"), true},
		{"the bridge", link("br-half"), true},
	}
}
