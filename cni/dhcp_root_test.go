package cni

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// Message types of DHCP (RFC 2132, section 9.6).
const (
	dhcpDiscover = 1
	dhcpOffer    = 2
	dhcpRequest  = 3
	dhcpAck      = 5
	dhcpRelease  = 7
)

// dhcpServer gives 10.7.0.2 and so on to who asks by an interface of a space, until the test ends.
type dhcpServer struct {
	mu       sync.Mutex
	given    map[string]byte // by MAC address: the last byte of its address
	released []byte
}

func serveDHCP(t *testing.T, in *link.Space, device string) *dhcpServer {
	t.Helper()
	s := &dhcpServer{given: map[string]byte{}}
	index, err := in.Index(device)
	if err != nil {
		t.Fatal(err)
	}
	raw := -1 // the kernel has a plain socket not hear of a release, which is from nobody to somebody
	var conn net.PacketConn
	linktest.In(t, in, func() (err error) {
		if raw, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if conn, err = net.ListenPacket("udp4", "10.7.0.1:67"); err != nil {
			return err
		}
		network := binary.NativeEndian.Uint16([]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff})
		return errors.Join(unix.Bind(raw, &unix.SockaddrLinklayer{Protocol: network, Ifindex: index}),
			unix.SetsockoptTimeval(raw, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}))
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { stop(); <-done; _ = unix.Close(raw); _ = conn.Close() })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for ctx.Err() == nil {
			n, _, err := unix.Recvfrom(raw, buf, 0)
			if err != nil || n < 28 || buf[0] != 0x45 || buf[9] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(buf[22:]) != 67 {
				continue
			}
			if answer := s.answer(buf[28:n]); answer != nil {
				_, _ = conn.WriteTo(answer, &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
			}
		}
	}()
	return s
}

// answer is that to a message (RFC 2131, figure 1), nil when there is none.
func (s *dhcpServer) answer(msg []byte) []byte {
	const header = 240 // the fixed part, with the magic cookie
	if len(msg) < header || msg[0] != 1 {
		return nil
	}
	var kind byte
	for rest := msg[header:]; len(rest) >= 2 && rest[0] != 255; rest = rest[2+int(rest[1]):] {
		if rest[0] == 0 {
			rest = rest[1:]
		}
		if rest[0] == 53 {
			kind = rest[2]
		}
		if len(rest) < 2+int(rest[1]) {
			return nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mac := string(msg[28:34])
	say := map[byte]byte{dhcpDiscover: dhcpOffer, dhcpRequest: dhcpAck}[kind]
	if kind == dhcpRelease {
		s.released = append(s.released, msg[15]) // ciaddr
	}
	if say == 0 {
		return nil
	}
	if s.given[mac] == 0 {
		s.given[mac] = byte(2 + len(s.given))
	}
	out := make([]byte, header)
	copy(out, msg[:header]) // xid, flags and chaddr
	out[0] = 2
	copy(out[16:], []byte{10, 7, 0, s.given[mac]})
	out = append(out, 53, 1, say, 54, 4, 10, 7, 0, 1, 1, 4, 255, 255, 255, 0, 3, 4, 10, 7, 0, 1, 51, 4)
	return append(binary.BigEndian.AppendUint32(out, 3600), 255)
}

// await returns when the server has given so many leases and got them back: nobody answers a release.
func (s *dhcpServer) await(t *testing.T, leases int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		given, released := len(s.given), slices.Clone(s.released)
		s.mu.Unlock()
		if given == leases && len(released) == leases {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d leases, %v came back, want %d", given, released, leases)
		}
	}
}

// dhcpDaemon runs the daemon that the dhcp plugin's binary talks to, until the test ends, and returns its socket,
// which it is given.
func dhcpDaemon(t *testing.T, bin, socket string) string {
	t.Helper()
	daemon := exec.Command(filepath.Join(bin, "dhcp"), "daemon", "-socketpath", socket, "-timeout", "2s")
	var said strings.Builder
	daemon.Stderr = &said
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if t.Failed() {
			t.Logf("dhcp daemon:\n%s", said.String())
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal("the dhcp daemon makes no socket")
		}
	}
}

// TestRootDHCP has the plugins that can ask a network for addresses do so by the reference dhcp plugin, which runs as a process and needs the
// interface to be there, and up. The lease is given back while it still is.
func TestRootDHCP(t *testing.T) {
	bin := referencePlugins(t)
	if _, err := os.Stat(filepath.Join(bin, "dhcp")); err != nil {
		t.Skip("needs the reference dhcp plugin: ", err)
	}
	w := newWorld(t, func(c *Config) { c.BinDirs = []string{bin} })
	far := w.outside(t)
	eth0, err := far.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := linktest.AddAddress(far, eth0, netip.MustParsePrefix("10.7.0.1/24")); err != nil {
		t.Fatal(err)
	}
	server := serveDHCP(t, far, "eth0")
	ipam := `"ipam":{"type":"dhcp","daemonSocketPath":"` + dhcpDaemon(t, bin, filepath.Join(t.TempDir(), "dhcp.sock")) + `"}`
	serve(t, far, "10.7.0.1:80")
	given := 0
	for _, main := range []string{`"type":"macvlan","master":"uplink"`, `"type":"bridge","bridge":"br-dhcp"`, `"type":"host-device","device":"uplink"`} {
		if strings.Contains(main, "bridge") {
			w.enslave(t, "uplink", "br-dhcp")
		} else if l, _ := w.host.Link("br-dhcp"); l != nil {
			if err := w.host.DeleteAt(l.Attrs().Index); err != nil {
				t.Fatal(err)
			}
		}
		w.write(t, "10-net.conflist", `{"cniVersion":"1.1.0","name":"net","plugins":[{`+main+`,`+ipam+`}]}`)
		p := w.pod(t, "p")
		if len(p.IPs) != 1 || !netip.MustParsePrefix("10.7.0.0/24").Contains(p.IPs[0]) {
			t.Fatalf("%s: addresses %v", main, p.IPs)
		}
		if seen := mustAsk(t, p.space, "10.7.0.1:80"); seen != p.IPs[0] {
			t.Errorf("%s: the server sees %s, not %s", main, seen, p.IPs[0])
		}
		if err := w.Check(context.Background(), p.Attachment); err != nil {
			t.Errorf("%s: %v", main, err)
		}
		if err := w.GC(context.Background(), []string{p.ID}); err != nil {
			t.Errorf("%s: %v", main, err)
		}
		w.del(t, p.Attachment)
		w.del(t, p.Attachment)
		given++
		server.await(t, given)
		p.remove()
	}
}

// enslave makes an interface of the host a port of a new bridge.
func (w *world) enslave(t *testing.T, port, bridge string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	if err := w.host.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	var ends []netlink.Link
	for _, name := range []string{port, bridge} {
		l, err := w.host.Link(name)
		if err != nil || l == nil {
			t.Fatal(l, err)
		}
		ends = append(ends, l)
	}
	if err := w.host.Netlink().LinkSetMaster(ends[0], ends[1]); err != nil {
		t.Fatal(err)
	}
	if err := w.host.Netlink().LinkSetUp(ends[1]); err != nil {
		t.Fatal(err)
	}
}

// TestRootDHCPWithoutItsDaemon: the pod gets nothing and is left without its interface at once; that the lease, if any, was not given back is
// not forgotten, and made good when the daemon is there.
func TestRootDHCPWithoutItsDaemon(t *testing.T) {
	bin := referencePlugins(t)
	if _, err := os.Stat(filepath.Join(bin, "dhcp")); err != nil {
		t.Skip("needs the reference dhcp plugin: ", err)
	}
	w := newWorld(t, func(c *Config) { c.BinDirs = []string{bin} })
	w.outside(t)
	socket := filepath.Join(t.TempDir(), "dhcp.sock")
	for _, main := range []string{`"type":"macvlan","master":"uplink"`, `"type":"bridge","bridge":"br-dhcp"`, `"type":"host-device","device":"uplink"`} {
		w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{`+main+`,"ipam":{"type":"dhcp","daemonSocketPath":"`+socket+`"}}]}`)
		a, remove := w.attachment(t, "p")
		_, err := w.Add(context.Background(), a)
		for _, word := range []string{"10-net.conflist", strings.Split(main, `"`)[3], "ipam dhcp", socket} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v does not name %s", main, err, word)
			}
		}
		pod := linktest.Open(t, a.NetNS)
		w.fabric.reaper.Close() // at once
		if l, err := pod.Link("eth0"); err != nil || l != nil {
			t.Errorf("%s: the pod has %v, %v", main, l, err)
		}
		if err := w.Del(context.Background(), a); err == nil || !strings.Contains(err.Error(), socket) {
			t.Errorf("%s: a lease that nobody gave back is forgotten: %v", main, err)
		}
		t.Run("and with it", func(t *testing.T) { // the daemon ends with it
			dhcpDaemon(t, bin, socket)
			w.del(t, a)
			if record, err := w.book.intents.read(a.ID); record != nil || err != nil {
				t.Errorf("%s: its record stays: %v, %v", main, record, err)
			}
		})
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
		remove()
	}
}
