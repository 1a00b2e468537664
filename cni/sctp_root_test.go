package cni

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// sctpInit is the first packet of an association (RFC 9260, section 3.3.2), with its checksum (appendix A).
func sctpInit(from, to uint16) []byte {
	p := make([]byte, 12+20)
	binary.BigEndian.PutUint16(p, from)
	binary.BigEndian.PutUint16(p[2:], to)
	chunk := p[12:]
	chunk[0] = 1 // INIT
	binary.BigEndian.PutUint16(chunk[2:], 20)
	binary.BigEndian.PutUint32(chunk[4:], 0x1234) // initiate tag
	binary.BigEndian.PutUint32(chunk[8:], 65536)  // window
	binary.BigEndian.PutUint16(chunk[12:], 1)     // streams
	binary.BigEndian.PutUint16(chunk[14:], 1)
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	return p
}

// sctpSocket is a raw socket in a namespace.
func sctpSocket(t testing.TB, in *link.Space, v4 bool) int {
	t.Helper()
	fd, family := -1, unix.AF_INET6
	if v4 {
		family = unix.AF_INET
	}
	err := in.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestRootSCTPHostPort sends the first packet of an SCTP association to a port of the host, from another machine, and looks for it in the
// pod. Nothing but the packets has to know SCTP: a kernel without CONFIG_IP_SCTP translates them all the same.
func TestRootSCTPHostPort(t *testing.T) {
	w := newWorld(t, nil)
	far := w.outside(t)
	uplink, err := w.host.Index("uplink")
	if err != nil {
		t.Fatal(err)
	}
	eth0, err := far.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for space, end := range map[*link.Space]struct {
		index int
		addr  string
	}{w.host: {uplink, "2001:db8::1/64"}, far: {eth0, "2001:db8::2/64"}} {
		b := space.Batch()
		b.AddAddress(end.index, netip.MustParsePrefix(end.addr), false)
		if err := b.Run(); err != nil {
			t.Fatal(err)
		}
	}
	p := w.pod(t, "p", PortMapping{HostPort: 8080, ContainerPort: 3868, Protocol: "SCTP"})
	for _, to := range []string{"192.0.2.1", "2001:db8::1"} {
		addr := netip.MustParseAddr(to)
		inside, outside := sctpSocket(t, p.space, addr.Is4()), sctpSocket(t, far, addr.Is4())
		var dst unix.Sockaddr = &unix.SockaddrInet6{Addr: addr.As16()}
		if addr.Is4() {
			dst = &unix.SockaddrInet4{Addr: addr.As4()}
		}
		if port := firstSCTP(t, outside, inside, dst); port != 3868 {
			t.Errorf("to %s: the pod got a packet for port %d", to, port)
		}
	}
	if err := w.Check(context.Background(), p.Attachment); err != nil {
		t.Error(err)
	}
	w.del(t, p.Attachment)
}

// firstSCTP sends until something comes out, for some seconds: a neighbour may have to be asked for first. It returns the port.
func firstSCTP(t *testing.T, from, to int, dst unix.Sockaddr) uint16 {
	t.Helper()
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if err := unix.Sendto(from, sctpInit(40000, 8080), 0, dst); err != nil {
			t.Fatal(err)
		}
		n, _, err := unix.Recvfrom(to, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		packet := buf[:n]
		if _, v4 := dst.(*unix.SockaddrInet4); v4 { // whose raw sockets give the IP header, too
			packet = packet[int(packet[0]&15)*4:]
		}
		return binary.BigEndian.Uint16(packet[2:])
	}
	return 0
}
