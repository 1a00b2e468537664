package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// world is a host in a namespace of its own with a network on it.
type world struct {
	*Network
	host *link.Space
	dir  string
	conf string
}

func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	host := linktest.Host(t)
	w := &world{host: host, dir: filepath.Join(t.TempDir(), "cni"), conf: t.TempDir()}
	cfg := DefaultConfig()
	cfg.ConfDir = w.conf
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg, w.dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	w.Network = n
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// pod is an attached pod.
type pod struct {
	Attachment
	*Result
	space  *link.Space
	remove func()
}

// said is what the plugins said, as JSON.
func said(t testing.TB, r *Result) string {
	t.Helper()
	b, err := json.Marshal(r.CNI)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func podID(name string) string { return fmt.Sprintf("%064x", []byte(name))[:64] }

func (w *world) attachment(t testing.TB, name string, ports ...PortMapping) (Attachment, func()) {
	path, remove := linktest.Pod(t)
	return Attachment{
		ID: podID(name), NetNS: path, PodName: name, PodNamespace: "default", PodUID: "uid-" + name, Ports: ports,
	}, remove
}

func (w *world) pod(t testing.TB, name string, ports ...PortMapping) *pod {
	t.Helper()
	a, remove := w.attachment(t, name, ports...)
	r, err := w.Add(context.Background(), a)
	if err != nil {
		t.Fatalf("add %s: %v", name, err)
	}
	p := &pod{Attachment: a, Result: r, space: linktest.Open(t, a.NetNS), remove: remove}
	return p
}

func (w *world) del(t testing.TB, a Attachment) {
	t.Helper()
	if err := w.Del(context.Background(), a); err != nil {
		t.Fatalf("del %s: %v", a.PodName, err)
	}
}

// serve answers each connection with the address that it comes from, until the test ends.
func serve(t testing.TB, in *link.Space, address string) {
	t.Helper()
	var l net.Listener
	linktest.In(t, in, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().String())
			_ = c.Close()
		}
	}()
}

// askTimeout is less than the second after which TCP sends its first packet again: nothing may need that.
const askTimeout = 900 * time.Millisecond

// ask connects from a namespace and returns who the server saw.
func ask(in *link.Space, address string) (netip.Addr, error) {
	var seen netip.Addr
	err := in.Do(func() error {
		c, err := net.DialTimeout("tcp", address, askTimeout)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		b, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		ap, err := netip.ParseAddrPort(string(b))
		seen = ap.Addr().Unmap()
		return err
	})
	return seen, err
}

func mustAsk(t testing.TB, in *link.Space, address string) netip.Addr {
	t.Helper()
	seen, err := ask(in, address)
	if err != nil {
		t.Fatalf("ask %s: %v", address, err)
	}
	return seen
}

func join(a netip.Addr, port int) string { return netip.AddrPortFrom(a, uint16(port)).String() }

// nothingLeft holds the host and the directory against a fresh one's.
func (w *world) nothingLeft(t testing.TB) {
	t.Helper()
	w.life.Lock()
	w.fabric.reaper.Close()
	err := w.tidy()
	w.life.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	deadline := time.Now().Add(5 * time.Second)
	for {
		links, err := w.host.Netlink().LinkList()
		if err != nil {
			t.Fatal(err)
		}
		left = nil
		for _, l := range links {
			if l.Attrs().Name != "lo" {
				left = append(left, l.Attrs().Name)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	names, err := w.fabric.tables.Names()
	if err != nil {
		t.Fatal(err)
	}
	left = append(left, names...)
	_ = filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" && !strings.HasPrefix(d.Name(), "last_reserved_ip.") {
			left = append(left, path)
		}
		return nil
	})
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRootBuiltinPod(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.Status(); err != nil {
		t.Fatal(err)
	}
	p := w.pod(t, "web", PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"})
	if len(p.IPs) != 2 || p.IPs[0] != netip.MustParseAddr("10.88.0.2") || p.IPs[1] != netip.MustParseAddr("fd00:88::2") {
		t.Fatalf("addresses %v", p.IPs)
	}
	other := w.pod(t, "client")
	serve(t, p.space, ":80")

	gw4, gw6 := netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("fd00:88::1")
	cases := []struct {
		name string
		from *link.Space
		to   string
		seen []netip.Addr
	}{
		{"host to pod, v4", w.host, join(p.IPs[0], 80), []netip.Addr{gw4}},
		{"host to pod, v6", w.host, join(p.IPs[1], 80), []netip.Addr{gw6}},
		{"pod to pod, v4", other.space, join(p.IPs[0], 80), []netip.Addr{other.IPs[0]}},
		{"pod to pod, v6", other.space, join(p.IPs[1], 80), []netip.Addr{other.IPs[1]}},
		{"pod to itself over lo", p.space, "127.0.0.1:80", nil},
		{"host port from the host", w.host, join(gw4, 8080), nil},
		{"host port from the host, v6", w.host, join(gw6, 8080), nil},
		{"host port by localhost", w.host, "127.0.0.1:8080", []netip.Addr{gw4}},
		{"host port from another pod", other.space, join(gw4, 8080), nil},
		{"host port from another pod, v6", other.space, join(gw6, 8080), nil},
		{"host port from the pod itself", p.space, join(gw4, 8080), []netip.Addr{gw4}},
		{"host port from the pod itself, v6", p.space, join(gw6, 8080), []netip.Addr{gw6}},
	}
	for _, c := range cases {
		seen, err := ask(c.from, c.to)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if len(c.seen) > 0 && seen != c.seen[0] {
			t.Errorf("%s: the pod saw %s, want %s", c.name, seen, c.seen[0])
		}
	}
	w.del(t, p.Attachment)
	have, err := p.space.Addresses(2)
	if err != nil || len(have) > 1 {
		t.Errorf("the released pod still has %v (%v)", have, err)
	}
	w.del(t, p.Attachment)
	w.del(t, other.Attachment)
	w.nothingLeft(t)
}

// enter moves the goroutine for good: its thread ends with it.
func enter(s *link.Space) error {
	runtime.LockOSThread()
	return unix.Setns(s.FD(), unix.CLONE_NEWNET)
}
