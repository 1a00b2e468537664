package sandbox

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// dial connects on the host.
func (h fakeHost) dial(ctx context.Context, namespace, address string) (*net.TCPConn, error) {
	if err := h.at("dial " + filepath.Base(filepath.Dir(namespace))); err != nil {
		return nil, err
	}
	return dialTCP(ctx, address)
}

// server answers each connection by f, and returns its port.
func server(t *testing.T, address string, f func(*net.TCPConn)) int32 {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("this machine has no %s: %v", address, err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c.(*net.TCPConn))
		}
	}()
	return int32(l.Addr().(*net.TCPAddr).Port)
}

// echo sends back what it got, once it has all, and closes.
func echo(c *net.TCPConn) {
	defer c.Close()
	all, _ := io.ReadAll(c)
	_, _ = c.Write(append([]byte("got "), all...))
}

// client is a connection's end to give away, and one to keep. The first half-closes
// as streams do: its Close ends one direction only.
type client struct{ *net.TCPConn }

func (c client) Close() error { return c.CloseWrite() }

func pair(t *testing.T) (client, *net.TCPConn) {
	ends := make(chan *net.TCPConn, 1)
	port := server(t, "127.0.0.1:0", func(c *net.TCPConn) { ends <- c })
	own, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	return client{<-ends}, own
}

func TestPortForward(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		port := server(t, address, echo)
		stream, own := pair(t)
		done := make(chan error, 1)
		go func() { done <- d.m.PortForward(t.Context(), pod, port, stream) }()
		if _, err := own.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		own.CloseWrite()
		if got, err := io.ReadAll(own); err != nil || string(got) != "got hello" {
			t.Errorf("%s: %q, %v", address, got, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if got := d.dials(); got != "dial netns" {
		t.Errorf("a pod with a network of its own: %s", got)
	}
}

// dials is the last operation that was a dial.
func (d *daemon) dials() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := ""
	for _, op := range d.ops {
		if len(op) > 4 && op[:5] == "dial " {
			last = op
		}
	}
	return last
}

func TestPortForwardOfHostNetwork(t *testing.T) {
	d := newWorld(t).start()
	config := podConfig("web")
	config.Hostname = ""
	config.Security.Namespaces.Network = spec.NamespaceNode
	pod := d.runPod(config)
	port := server(t, "127.0.0.1:0", echo)
	stream, own := pair(t)
	own.CloseWrite()
	if err := d.m.PortForward(t.Context(), pod, port, stream); err != nil {
		t.Error(err)
	}
	if got := d.dials(); got != "dial ." {
		t.Errorf("%s", got)
	}
}

func TestPortForwardFails(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	stream, _ := pair(t)
	for _, c := range []struct {
		pod  string
		port int32
		want error
	}{{"x", 80, ErrNotFound}, {pod, 0, spec.ErrInvalid}, {pod, 65536, spec.ErrInvalid}} {
		if err := d.m.PortForward(t.Context(), c.pod, c.port, stream); !errors.Is(err, c.want) {
			t.Errorf("%s %d: %v", c.pod, c.port, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := int32(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	var refused *net.OpError
	if err := d.m.PortForward(t.Context(), pod, closed, stream); !errors.As(err, &refused) {
		t.Errorf("nobody listens: %v", err)
	}
	if err := d.m.StopPod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if err := d.m.PortForward(t.Context(), pod, 80, stream); !errors.Is(err, ErrState) {
		t.Errorf("a stopped pod: %v", err)
	}
	if _, err := d.m.ReadyPod(pod); !errors.Is(err, ErrState) {
		t.Errorf("a stopped pod: %v", err)
	}
}

// TestPortForwardEndsWithThePod has the pod stop under a connection that nobody
// closes.
func TestPortForwardEndsWithThePod(t *testing.T) {
	d := newWorld(t).start()
	pod := d.runPod(podConfig("web"))
	port := server(t, "127.0.0.1:0", func(*net.TCPConn) {})
	stream, own := pair(t)
	done := make(chan error, 1)
	go func() { done <- d.m.PortForward(t.Context(), pod, port, stream) }()
	d.eventually("the connection is made", func() error {
		if d.dials() == "" {
			return errors.New("not yet")
		}
		return nil
	})
	if err := d.m.StopPod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	own.Close()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, ErrState) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the connection outlives its pod")
	}
}
