package cni

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootReportsStayAway: a pod doesn't hear what others say of the multicast groups that they listen to, and hears multicast.
func TestRootReportsStayAway(t *testing.T) {
	w := newWorld(t, nil)
	first := w.pod(t, "first")
	before := counters(t, first)
	other := w.pod(t, "other")
	linktest.In(t, other.space, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		for i := range 50 { // of which each is reported, twice
			group := netip.MustParseAddr("ff05::1:0").As16()
			group[15] = byte(i)
			conn, err := net.ListenMulticastUDP("udp6", link, &net.UDPAddr{IP: group[:], Port: 4242})
			if err != nil {
				return err
			}
			defer conn.Close()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(1500 * time.Millisecond)
		return nil
	})
	got := counters(t, first).RxPackets - before.RxPackets
	t.Logf("%d packets", got)
	if got > 20 {
		t.Errorf("the first pod got %d packets while the other one listened to 50 groups", got)
	}
	heard := make(chan error, 1)
	group := &net.UDPAddr{IP: net.ParseIP("ff05::1:7"), Port: 4242}
	ready := make(chan struct{})
	go linktest.In(t, first.space, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err := net.ListenMulticastUDP("udp6", link, group)
		if err != nil {
			return err
		}
		defer conn.Close()
		close(ready)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		_, _, err = conn.ReadFrom(make([]byte, 10))
		heard <- err
		return nil
	})
	<-ready
	linktest.In(t, other.space, func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := &unix.SockaddrInet6{Port: group.Port}
		copy(to.Addr[:], group.IP)
		return unix.Sendto(fd, []byte("hello"), 0, to)
	})
	if err := <-heard; err != nil {
		t.Errorf("multicast between pods: %v", err)
	}
}
