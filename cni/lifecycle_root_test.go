package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-runtime/berth/cni/plugin/bridge"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func TestRootParallelAddsGiveDistinctAddresses(t *testing.T) {
	w := newWorld(t, nil)
	const pods = 20
	var mu sync.Mutex
	seen := map[netip.Addr]string{}
	var list []Attachment
	var done sync.WaitGroup
	for i := range pods {
		a, _ := w.attachment(t, fmt.Sprintf("p%d", i), PortMapping{HostPort: int32(9000 + i), ContainerPort: 80})
		list = append(list, a)
		done.Go(func() {
			r, err := w.Add(context.Background(), a)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, ip := range r.IPs {
				if other := seen[ip]; other != "" {
					t.Errorf("%s was given to %s and %s", ip, other, a.PodName)
				}
				seen[ip] = a.PodName
			}
		})
	}
	done.Wait()
	if len(seen) != 2*pods {
		t.Errorf("%d addresses for %d pods", len(seen), pods)
	}
	for _, a := range list {
		done.Go(func() {
			if err := w.Del(context.Background(), a); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	w.nothingLeft(t)
}

func TestRootManySequentialLeaveNothing(t *testing.T) {
	turns := 500
	if testing.Short() {
		turns = 50
	}
	w := newWorld(t, nil)
	for i := range turns {
		a, remove := w.attachment(t, fmt.Sprintf("p%d", i), PortMapping{HostPort: 8080, ContainerPort: 80})
		if _, err := w.Add(context.Background(), a); err != nil {
			t.Fatalf("turn %d: %v", i, err)
		}
		if i%2 == 0 {
			remove() // every other pod's namespace is gone before its DEL
		}
		w.del(t, a)
		remove()
	}
	w.nothingLeft(t)
}

func TestRootSameNamespaceAgain(t *testing.T) {
	w := newWorld(t, nil)
	a, _ := w.attachment(t, "again")
	for range 3 {
		if _, err := w.Add(context.Background(), a); err != nil {
			t.Fatal(err)
		}
		w.del(t, a)
	}
	w.nothingLeft(t)
}

func TestRootAddTwiceAttachesAnew(t *testing.T) {
	w := newWorld(t, nil)
	p := w.pod(t, "twice", PortMapping{HostPort: 8080, ContainerPort: 80})
	r, err := w.Add(context.Background(), p.Attachment)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, p.space, ":80")
	mustAsk(t, w.host, join(r.IPs[0], 80))
	mustAsk(t, w.host, "127.0.0.1:8080")
	w.del(t, p.Attachment)
	w.nothingLeft(t)
}

func TestRootTakenPortNamesHolder(t *testing.T) {
	w := newWorld(t, nil)
	w.pod(t, "holder", PortMapping{HostPort: 8080, ContainerPort: 80}, PortMapping{HostPort: 8443, ContainerPort: 443, HostIP: "10.88.0.1"})
	cases := []struct {
		name  string
		port  PortMapping
		taken bool
	}{
		{"same", PortMapping{HostPort: 8080, ContainerPort: 1}, true},
		{"one address of it", PortMapping{HostPort: 8080, ContainerPort: 1, HostIP: "127.0.0.1"}, true},
		{"all over one", PortMapping{HostPort: 8443, ContainerPort: 1}, true},
		{"another address", PortMapping{HostPort: 8443, ContainerPort: 1, HostIP: "127.0.0.1"}, false},
		{"another protocol", PortMapping{HostPort: 8080, ContainerPort: 1, Protocol: "SCTP"}, false},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, _ := w.attachment(t, fmt.Sprintf("second%d", i), c.port)
			_, err := w.Add(context.Background(), a)
			if c.taken != errors.Is(err, ErrPortTaken) || c.taken == (err == nil) {
				t.Fatalf("got %v", err)
			}
			if c.taken && !strings.Contains(err.Error(), "default/holder") {
				t.Errorf("%v does not name the holder", err)
			}
		})
	}
}

func TestRootFailedAddLeavesNothing(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Builtin = false })
	bin := t.TempDir()
	w.run.binDirs = []string{bin}
	script := "#!/bin/sh\nif [ $CNI_COMMAND = ADD ]; then echo '{\"code\": 77, \"msg\": \"no such luck\"}'; exit 1; fi\n"
	if err := os.WriteFile(filepath.Join(bin, "unlucky"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[
		{"type":"bridge","bridge":"br-test","isDefaultGateway":true,"ipMasq":true,
		 "ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"`+w.dir+`/leases"}},
		{"type":"portmap","capabilities":{"portMappings":true}},
		{"type":"unlucky"}]}`)
	a, _ := w.attachment(t, "p", PortMapping{HostPort: 8080, ContainerPort: 80})
	_, err := w.Add(context.Background(), a)
	if err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), "10-net.conflist") || !strings.Contains(err.Error(), "unlucky") {
		t.Fatalf("got %v", err)
	}
	br, err := w.host.Link("br-test")
	if err != nil || br == nil {
		t.Fatal("the bridge of a configuration is not ours to remove", err)
	}
	if err := w.host.DeleteAt(br.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft(t)
}

func TestRootOtherOwnersBridge(t *testing.T) {
	w := newWorld(t, nil)
	w.pod(t, "p")
	other, err := New(w.cfg, filepath.Join(t.TempDir(), "cni"), quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	a, _ := w.attachment(t, "q")
	if _, err := other.Add(context.Background(), a); !errors.Is(err, bridge.ErrOtherOwner) || !strings.Contains(err.Error(), w.dir) {
		t.Fatalf("got %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err := w.host.Link("berth0"); err != nil || l == nil {
		t.Errorf("another daemon took our bridge: %v", err)
	}
}

func TestRootDaemonsSideBySide(t *testing.T) {
	w := newWorld(t, nil)
	cfg := w.cfg
	cfg.BuiltinBridge, cfg.BuiltinSubnets = "berth1", []string{"10.89.0.0/16"}
	other, err := New(cfg, filepath.Join(t.TempDir(), "cni"), quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	ours := w.pod(t, "ours", PortMapping{HostPort: 8001, ContainerPort: 80})
	a, _ := w.attachment(t, "theirs", PortMapping{HostPort: 8002, ContainerPort: 80})
	r, err := other.Add(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, ours.space, ":80")
	theirs := linktest.Open(t, a.NetNS)
	serve(t, theirs, ":80")
	mustAsk(t, w.host, "127.0.0.1:8001")
	mustAsk(t, w.host, "127.0.0.1:8002")
	mustAsk(t, theirs, join(ours.IPs[0], 80)) // routed, and masqueraded by the other
	if err := other.GC(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, w.host, "127.0.0.1:8001")
	if err := other.Del(context.Background(), a); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, w.host, "127.0.0.1:8001")
	if len(r.IPs) != 1 || r.IPs[0] != netip.MustParseAddr("10.89.0.2") {
		t.Errorf("addresses %v", r.IPs)
	}
	w.del(t, ours.Attachment)
	w.nothingLeft(t)
}

// restart is a daemon that was killed, and the next one.
func (w *world) restart(t testing.TB) {
	t.Helper()
	w.watch.Close()
	n, err := New(w.cfg, w.dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	w.Network = n
	t.Cleanup(func() { _ = n.Close() })
}

func TestRootRestartKeepsPodsAndCollectsTheRest(t *testing.T) {
	w := newWorld(t, nil)
	kept := w.pod(t, "kept", PortMapping{HostPort: 8001, ContainerPort: 80})
	lost := w.pod(t, "lost", PortMapping{HostPort: 8002, ContainerPort: 80})
	serve(t, kept.space, ":80")
	// What a crash between two lines can leave: a lease, elements and a result without a record.
	half := w.pod(t, "half", PortMapping{HostPort: 8003, ContainerPort: 80})
	if err := w.book.intents.remove(half.ID); err != nil {
		t.Fatal(err)
	}
	w.restart(t)
	if err := w.GC(context.Background(), []string{kept.ID}); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, w.host, "127.0.0.1:8001")
	leases, err := filepath.Glob(filepath.Join(w.dir, "networks/berth/[1f]*"))
	if err != nil || len(leases) != 2 {
		t.Errorf("leases %v, %v", leases, err)
	}
	// The ports are free again, and the kept one is still known to be taken.
	w.pod(t, "next", PortMapping{HostPort: 8002, ContainerPort: 80}, PortMapping{HostPort: 8003, ContainerPort: 80})
	a, _ := w.attachment(t, "thief", PortMapping{HostPort: 8001, ContainerPort: 80})
	if _, err := w.Add(context.Background(), a); !errors.Is(err, ErrPortTaken) {
		t.Errorf("got %v", err)
	}
	if err := w.GC(context.Background(), []string{kept.ID}); err != nil { // must not touch what came since
		t.Fatal(err)
	}
	w.del(t, Attachment{ID: podID("next")})
	w.del(t, Attachment{ID: kept.ID}) // no path: the record knows
	w.del(t, Attachment{ID: lost.ID})
	half.remove() // nobody knows its namespace any more: its interface goes with it
	_ = half.space.Close()
	w.nothingLeft(t)
}

func TestRootDelAfterConfigurationChanged(t *testing.T) {
	w := newWorld(t, nil)
	conf := func(name, subnet string) string {
		return `{"cniVersion":"1.0.0","name":"` + name + `","plugins":[{"type":"bridge","bridge":"br-` + name + `","isGateway":true,
			"ipam":{"type":"host-local","subnet":"` + subnet + `","dataDir":"` + w.dir + `/leases"}}]}`
	}
	w.write(t, "10-a.conflist", conf("old", "10.9.0.0/24"))
	p := w.pod(t, "p")
	w.write(t, "10-a.conflist", conf("new", "10.10.0.0/24"))
	q := w.pod(t, "q")
	if q.IPs[0] != netip.MustParseAddr("10.10.0.2") {
		t.Errorf("address %v", q.IPs)
	}
	w.del(t, p.Attachment)
	w.del(t, q.Attachment)
	for _, name := range []string{"br-old", "br-new"} {
		l, _ := w.host.Link(name)
		if err := w.host.DeleteAt(l.Attrs().Index); err != nil {
			t.Fatal(err)
		}
	}
	w.nothingLeft(t)
}

func TestRootIdleNetworkIsTidiedUp(t *testing.T) {
	w := newWorld(t, nil)
	p := w.pod(t, "p")
	w.del(t, p.Attachment)
	if l, _ := w.host.Link("berth0"); l == nil {
		t.Error("the bridge went with its last pod, and would be made anew for the next")
	}
	deadline := time.Now().Add(idleDelay + 3*time.Second)
	for {
		l, err := w.host.Link("berth0")
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the bridge stays without pods")
		}
		time.Sleep(100 * time.Millisecond)
	}
	next := w.pod(t, "next", PortMapping{HostPort: 8080, ContainerPort: 80})
	serve(t, next.space, ":80")
	mustAsk(t, w.host, "127.0.0.1:8080")
}

func TestRootPodCIDRs(t *testing.T) {
	w := newWorld(t, nil)
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("fd00:10:244:3::/64")}
	if err := w.SetPodCIDRs(cidrs); err != nil {
		t.Fatal(err)
	}
	w.restart(t)
	p := w.pod(t, "p")
	if p.IPs[0] != netip.MustParseAddr("10.244.3.2") || p.IPs[1] != netip.MustParseAddr("fd00:10:244:3::2") {
		t.Errorf("addresses %v", p.IPs)
	}
	if err := w.SetPodCIDRs([]netip.Prefix{netip.MustParsePrefix("10.244.3.1/24")}); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
	serve(t, p.space, ":80")
	mustAsk(t, w.host, "10.244.3.2:80")
	// kubelet may say it when pods run already: they keep what they have, and others get theirs.
	if err := w.SetPodCIDRs([]netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	q := w.pod(t, "q")
	if q.IPs[0] != netip.MustParseAddr("10.9.0.2") {
		t.Errorf("addresses %v", q.IPs)
	}
	serve(t, q.space, ":80")
	mustAsk(t, w.host, "10.9.0.2:80")
	mustAsk(t, w.host, "10.244.3.2:80")
	mustAsk(t, q.space, "10.244.3.2:80")
	mustAsk(t, p.space, "10.9.0.2:80")
	// One that overlaps what the bridge has is a mistake.
	if err := w.SetPodCIDRs([]netip.Prefix{netip.MustParsePrefix("10.9.0.0/25")}); err != nil {
		t.Fatal(err)
	}
	a, _ := w.attachment(t, "r")
	if _, err := w.Add(context.Background(), a); !errors.Is(err, bridge.ErrOtherSubnet) {
		t.Errorf("got %v", err)
	}
}

func (w *world) write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.conf, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
