package cni

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// outside joins another machine to the host: 192.0.2.1 is the host, 192.0.2.2 the other, which has no route to pods.
func (w *world) outside(t testing.TB) *link.Space {
	t.Helper()
	far, _ := linktest.Joined(t, w.host, "uplink")
	for space, end := range map[*link.Space][2]string{w.host: {"uplink", "192.0.2.1/24"}, far: {"eth0", "192.0.2.2/24"}} {
		l, err := space.Link(end[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := linktest.AddAddress(space, l.Attrs().Index, netip.MustParsePrefix(end[1])); err != nil {
			t.Fatal(err)
		}
		if err := linktest.Up(space, l.Attrs().Index); err != nil {
			t.Fatal(err)
		}
	}
	for space, name := range map[*link.Space]string{w.host: "uplink", far: "eth0"} { // nothing is to be sent a second time
		if err := space.AwaitUp(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if l, _ := w.host.Link("uplink"); l != nil {
			_ = w.host.DeleteAt(l.Attrs().Index)
		}
	})
	return far
}

func TestRootMasquerade(t *testing.T) {
	w := newWorld(t, nil)
	far := w.outside(t)
	serve(t, far, ":80")
	p := w.pod(t, "web", PortMapping{HostPort: 8080, ContainerPort: 80, HostIP: "192.0.2.1"}, PortMapping{HostPort: 8081, ContainerPort: 80})
	serve(t, p.space, ":80")
	if seen := mustAsk(t, p.space, "192.0.2.2:80"); seen != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("the other machine saw %s, not the host", seen)
	}
	for _, port := range []string{"8080", "8081"} {
		if seen := mustAsk(t, far, "192.0.2.1:"+port); seen != netip.MustParseAddr("192.0.2.2") {
			t.Errorf("port %s: the pod saw %s, not the client", port, seen)
		}
	}
	if _, err := ask(w.host, "10.88.0.1:8080"); err == nil {
		t.Error("a port of one host address answers on another")
	}
	w.del(t, p.Attachment)
	if _, err := ask(far, "192.0.2.1:8081"); err == nil {
		t.Error("the port is open after the pod was released")
	}
}

func TestRootUDPPortMovesToNewPod(t *testing.T) {
	w := newWorld(t, nil)
	far := w.outside(t)
	var sender net.Conn
	linktest.In(t, far, func() (err error) {
		sender, err = net.Dial("udp", "192.0.2.1:5353")
		return err
	})
	defer func() { _ = sender.Close() }()
	// One flow, which never pauses, must follow the port from pod to pod.
	for _, name := range []string{"first", "second"} {
		p := w.pod(t, name, PortMapping{HostPort: 5353, ContainerPort: 53, Protocol: "UDP"})
		var server net.PacketConn
		linktest.In(t, p.space, func() (err error) {
			server, err = net.ListenPacket("udp", ":53")
			return err
		})
		deadline := time.Now().Add(3 * time.Second)
		_ = server.SetReadDeadline(deadline)
		got := make(chan error, 1)
		go func() {
			_, _, err := server.ReadFrom(make([]byte, 16))
			got <- err
		}()
		for done := false; !done; {
			_, _ = sender.Write([]byte("hello"))
			select {
			case err := <-got:
				if err != nil {
					t.Fatalf("%s got nothing: %v", name, err)
				}
				done = true
			case <-time.After(20 * time.Millisecond):
			}
		}
		_ = server.Close()
		w.del(t, p.Attachment)
		p.remove()
	}
}

// A pod that asks another of its subnet by a host port must get its answer by the host, which undoes the translation. Where bridges pass
// netfilter, the bridge does so; elsewhere the pod asked must see the host.
func TestRootHostPortAmongPods(t *testing.T) {
	for _, filtered := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+filtered, func(t *testing.T) {
			w := newWorld(t, nil)
			err := w.host.SetSysctls("net/bridge", link.Sysctl{Name: "bridge-nf-call-iptables", Value: filtered},
				link.Sysctl{Name: "bridge-nf-call-ip6tables", Value: filtered})
			if err != nil {
				t.Skipf("this kernel has no br_netfilter: %v", err)
			}
			p := w.pod(t, "web", PortMapping{HostPort: 8080, ContainerPort: 80})
			serve(t, p.space, ":80")
			other := w.pod(t, "client")
			for _, address := range []string{"10.88.0.1:8080", "[fd00:88::1]:8080"} {
				mustAsk(t, other.space, address)
				mustAsk(t, p.space, address)
			}
		})
	}
}

func TestRootPortmapKeys(t *testing.T) {
	w := newWorld(t, nil)
	far := w.outside(t)
	list := func(keys string) string {
		return `{"cniVersion":"1.0.0","name":"net","plugins":[
			{"type":"bridge","bridge":"br-keys","isDefaultGateway":true,"ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"` + w.dir + `/leases"}},
			{"type":"portmap","capabilities":{"portMappings":true}` + keys + `}]}`
	}
	cases := []struct {
		name, keys  string
		here, there bool // does the port answer on the host's loopback address, and to the other machine?
	}{
		{"default", ``, true, true},
		{"snat off", `,"snat":false`, false, true},
		{"not from the machine, as iptables", `,"conditionsV4":["!","-s","192.0.2.2"]`, true, false},
		{"not by the uplink, as nft", `,"conditionsV4":["iifname","!=","uplink"]`, true, false},
		{"not to the host's address", `,"conditionsV4":["ip","daddr","!=","192.0.2.0/24"]`, true, false},
	}
	for i, c := range cases {
		w.write(t, "10-net.conflist", list(c.keys))
		p := w.pod(t, "p"+string(rune('a'+i)), PortMapping{HostPort: 8080, ContainerPort: 80})
		serve(t, p.space, ":80")
		if !c.here { // set by an earlier case, for the bridge
			err := w.host.SetSysctls("net/ipv4/conf/br-keys", link.Sysctl{Name: "route_localnet", Value: "0"})
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ask(w.host, "127.0.0.1:8080"); (err == nil) != c.here {
			t.Errorf("%s: on the host: %v", c.name, err)
		}
		if _, err := ask(far, "192.0.2.1:8080"); (err == nil) != c.there {
			t.Errorf("%s: on the other machine: %v", c.name, err)
		}
		w.del(t, p.Attachment)
		if !c.here {
			err := w.host.SetSysctls("net/ipv4/conf/br-keys", link.Sysctl{Name: "route_localnet", Value: "1"})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRootFlushedRuleSetIsPutBack(t *testing.T) {
	w := newWorld(t, nil)
	a := w.pod(t, "a", PortMapping{HostPort: 8001, ContainerPort: 80})
	serve(t, a.space, ":80")
	flush := func() { // as firewalls do when they reload
		conn := w.nftables(t)
		conn.FlushRuleset()
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	b := w.pod(t, "b", PortMapping{HostPort: 8002, ContainerPort: 80})
	mustAsk(t, w.host, "10.88.0.1:8001")
	flush()
	w.del(t, b.Attachment)
	if err := w.Del(context.Background(), a.Attachment); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft(t)
}

func (w *world) nftables(t testing.TB) *nftables.Conn {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(w.host.FD()))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
