package cni

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootLimits sends through the built-in network to and from a pod whose annotations limit it, and one without. The burst that Kubernetes'
// runtimes give is 256 MiB, so the test looks at the kernel's limits, and sends through small ones of a configuration.
func TestRootLimits(t *testing.T) {
	w := newWorld(t, nil)
	a, _ := w.attachment(t, "limited", PortMapping{HostPort: 8080, ContainerPort: 80})
	a.Annotations = map[string]string{ingressAnnotation: "10M", egressAnnotation: "20M"}
	r, err := w.Add(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	if looks := hostLooks(t, w.host); !strings.Contains(looks, "tbf rate 1250000 ") || !strings.Contains(looks, "tbf rate 2500000 ") || !strings.Contains(looks, "ifb") {
		t.Errorf("no limits on the host:\n%s", looks)
	}
	if len(r.IPs) != 2 || !strings.Contains(said(t, r), "bwp") {
		t.Errorf("result %s", said(t, r))
	}
	if err := w.Check(context.Background(), a); err != nil {
		t.Error(err)
	}
	w.pod(t, "free")
	w.restart(t) // the record knows that this pod's chain is another
	w.del(t, a)
	w.del(t, Attachment{ID: podID("free")})
	w.nothingLeft(t)
}

func TestRootLimitedRate(t *testing.T) {
	w := newWorld(t, nil)
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[
		{"type":"ptp","ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"`+w.dir+`/leases","routes":[{"dst":"0.0.0.0/0"}]}},
		{"type":"bandwidth","ingressRate":8000000,"ingressBurst":800000,"egressRate":8000000,"egressBurst":800000}]}`)
	p := w.pod(t, "p")
	const size = 600_000 // of which 100,000 pass at once, the others at 1 MB/s
	for name, way := range map[string][2]*link.Space{"to the pod": {w.host, p.space}, "from the pod": {p.space, w.host}} {
		to := p.IPs[0].String()
		if way[1] == w.host {
			to = "10.9.0.1"
		}
		took := transfer(t, way[0], way[1], to, size)
		if took < 300*time.Millisecond {
			t.Errorf("%s: %d bytes took %s", name, size, took)
		}
	}
	w.del(t, p.Attachment)
	w.nothingLeft(t)
}

// transfer sends bytes from one namespace to another and returns how long it took until all were there.
func transfer(t *testing.T, from, to *link.Space, address string, size int) time.Duration {
	t.Helper()
	var l net.Listener
	var conn net.Conn
	linktest.In(t, to, func() (err error) { l, err = net.Listen("tcp", address+":0"); return err })
	defer func() { _ = l.Close() }()
	got := make(chan int64)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- 0
			return
		}
		n, _ := io.Copy(io.Discard, c)
		_ = c.Close()
		got <- n
	}()
	linktest.In(t, from, func() (err error) { conn, err = net.Dial("tcp", l.Addr().String()); return err })
	start := time.Now()
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if n := <-got; n != int64(size) {
		t.Fatalf("%d bytes of %d came", n, size)
	}
	return time.Since(start)
}
