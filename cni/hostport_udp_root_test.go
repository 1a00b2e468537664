package cni

import (
	"net"
	"testing"
	"time"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// echoUDP answers each datagram on a port with a name, until the test ends.
func echoUDP(t testing.TB, in *link.Space, name string) {
	t.Helper()
	var l net.PacketConn
	linktest.In(t, in, func() (err error) {
		l, err = net.ListenPacket("udp", ":53")
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the socket
		buf := make([]byte, 16)
		for {
			_, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = l.WriteTo([]byte(name), from)
		}
	}()
}

// TestRootUDPSenderThatNeverPauses: what connection tracking knows of a sender outlives the pod that the port led to, as long as the sender
// goes on by the same socket. The next pod with the port must hear him at once, and after a pod of no network had it, too.
func TestRootUDPSenderThatNeverPauses(t *testing.T) {
	w := newWorld(t, nil)
	far := w.outside(t)
	w.pod(t, "neighbour") // with which the bridge has its address
	for to, from := range map[string]*link.Space{"192.0.2.1:53": far, "10.88.0.1:53": w.host} {
		var sender net.Conn
		linktest.In(t, from, func() (err error) {
			sender, err = net.Dial("udp", to)
			return err
		})
		// says sends until somebody answers: a lost datagram is no fault.
		says := func(want string) {
			t.Helper()
			buf, deadline := make([]byte, 16), time.Now().Add(3*time.Second)
			for time.Now().Before(deadline) {
				_, _ = sender.Write([]byte("x")) // ECONNREFUSED of the datagram before, while nobody has the port
				_ = sender.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				n, err := sender.Read(buf)
				if err != nil {
					continue
				}
				if got := string(buf[:n]); got != want {
					t.Errorf("%s: %s answers, not %s", to, got, want)
				}
				return
			}
			t.Errorf("%s: %s never answers", to, want)
		}
		for _, name := range []string{"first", "second"} {
			_, _ = sender.Write([]byte("x")) // tracked with no translation
			p := w.pod(t, name, PortMapping{HostPort: 53, ContainerPort: 53, Protocol: "UDP"})
			echoUDP(t, p.space, name)
			says(name)
			w.del(t, p.Attachment)
		}
		_ = sender.Close()
	}
}
