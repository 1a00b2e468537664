// Package linktest gives tests network namespaces of their own: one that is the host for the test, and pods. Nothing is mounted, and
// all ends with the test.
package linktest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// Host moves the test into a network namespace of its own, with lo up. The test's goroutine keeps its thread from then on; goroutines
// that it starts are not in the namespace. It skips the test when it is not root.
func Host(t testing.TB) *link.Space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace: %v", err)
	}
	host, err := link.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	up(t, host)
	return host
}

// Pod makes a namespace, and returns a path to it that is good until the test ends or remove is called.
func Pod(t testing.TB) (path string, remove func()) {
	t.Helper()
	file, err := fresh()
	if err != nil {
		t.Fatal(err)
	}
	gone := false
	remove = func() {
		if !gone {
			gone = true
			_ = file.Close()
		}
	}
	t.Cleanup(remove)
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd()), remove
}

// fresh makes a namespace on a thread that ends with it.
func fresh() (*os.File, error) {
	type answer struct {
		file *os.File
		err  error
	}
	done := make(chan answer)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- answer{nil, fmt.Errorf("unshare network namespace: %w", err)}
			return
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		done <- answer{file, err}
	}()
	a := <-done
	return a.file, a.err
}

// Open opens the namespace at path until the test ends.
func Open(t testing.TB, path string) *link.Space {
	t.Helper()
	s, err := link.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// In runs fn inside a namespace.
func In(t testing.TB, s *link.Space, fn func() error) {
	t.Helper()
	if err := s.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// AddVeth makes a pair, both ends down.
func AddVeth(s *link.Space, v link.Veth) error {
	b := s.Batch()
	b.AddVeth(v)
	return b.Run()
}

// Joined makes a namespace that is joined to host by a pair: name there, eth0 in it with the MAC address that is returned, both ends down.
func Joined(t testing.TB, host *link.Space, name string) (*link.Space, net.HardwareAddr) {
	t.Helper()
	path, _ := Pod(t)
	pod, mac := Open(t, path), link.RandomMAC()
	if err := AddVeth(host, link.Veth{Name: name, MAC: link.RandomMAC(), Pod: pod, PodName: "eth0", PodMAC: mac}); err != nil {
		t.Fatal(err)
	}
	return pod, mac
}

// UpPort brings the host's end of a pair up as a port of a bridge.
func UpPort(s *link.Space, name string, port link.Port) error {
	b := s.Batch()
	b.UpPort(name, port)
	return b.Run()
}

// Up brings an interface up.
func Up(s *link.Space, index int) error {
	b := s.Batch()
	b.Up(index)
	return b.Run()
}

// AddAddress gives an interface an address, without duplicate address detection.
func AddAddress(s *link.Space, index int, p netip.Prefix) error {
	b := s.Batch()
	b.AddAddress(index, p, false)
	return b.Run()
}

// DefaultRoute gives an interface the address 192.0.2.1/24, and the default route by 192.0.2.254, which need not be there.
func DefaultRoute(t testing.TB, s *link.Space, name string) {
	t.Helper()
	index, err := s.Index(name)
	if err != nil {
		t.Fatal(err)
	}
	b := s.Batch()
	b.AddAddress(index, netip.MustParsePrefix("192.0.2.1/24"), false)
	b.AddRoute(index, link.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gw: netip.MustParseAddr("192.0.2.254")})
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
}

func up(t testing.TB, s *link.Space) {
	t.Helper()
	lo, err := s.Link("lo")
	if err != nil || lo == nil {
		t.Fatal(errors.Join(err, errors.New("no lo")))
	}
	if err := s.Netlink().LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}
