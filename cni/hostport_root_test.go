package cni

import (
	"net/netip"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// TestRootHostPortsBothFamilies asks for a pod by ports of the host, from another machine, in both families: on all addresses and on one, before and
// after the daemon is another.
func TestRootHostPortsBothFamilies(t *testing.T) {
	w := newWorld(t, nil)
	far := w.outside(t)
	for space, end := range map[*link.Space][2]string{w.host: {"uplink", "2001:db8::1/64"}, far: {"eth0", "2001:db8::2/64"}} {
		index, err := space.Index(end[0])
		if err != nil {
			t.Fatal(err)
		}
		p := netip.MustParsePrefix(end[1])
		if err := linktest.AddAddress(space, index, p); err != nil {
			t.Fatal(err)
		}
		if err := space.AwaitUp(t.Context(), end[0]); err != nil {
			t.Fatal(err)
		}
		podif.Reachable(t.Context(), space, end[0], []netip.Addr{p.Addr()})
	}
	p := w.pod(t, "web", PortMapping{HostPort: 8080, ContainerPort: 80}, PortMapping{HostPort: 8081, ContainerPort: 80, HostIP: "2001:db8::1"},
		PortMapping{HostPort: 8082, ContainerPort: 80, HostIP: "192.0.2.1", Protocol: "TCP"})
	serve(t, p.space, ":80")
	for range 2 {
		for address, client := range map[string]string{
			"192.0.2.1:8080": "192.0.2.2", "[2001:db8::1]:8080": "2001:db8::2", "[2001:db8::1]:8081": "2001:db8::2", "192.0.2.1:8082": "192.0.2.2",
		} {
			if seen := mustAsk(t, far, address); seen.String() != client {
				t.Errorf("%s: the pod saw %s, not the client", address, seen)
			}
		}
		mustAsk(t, w.host, "127.0.0.1:8080")
		for _, closed := range []string{"192.0.2.1:8081", "[2001:db8::1]:8082", "10.88.0.1:8082"} {
			if _, err := ask(w.host, closed); err == nil {
				t.Errorf("%s answers, which is another address than the port's", closed)
			}
		}
		w.restart(t)
	}
	w.del(t, p.Attachment)
	for _, address := range []string{"192.0.2.1:8080", "[2001:db8::1]:8081"} {
		if _, err := ask(far, address); err == nil {
			t.Errorf("%s answers after the pod was released", address)
		}
	}
}
