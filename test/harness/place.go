package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/berth-runtime/berth/test/images"
)

// Bin returns the directory of the binaries under test.
func Bin(t TB) string {
	t.Helper()
	dir := os.Getenv("BERTH_BIN")
	if dir == "" {
		root, err := images.ModuleRoot()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(root, "bin")
	}
	for _, name := range []string{"berth", "berth-keeper", "crictl"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatalf("find what is tested (make build tools makes it): %v", err)
		}
	}
	return dir
}

// freeSubnets picks ranges for a bridge that overlap no address of this machine.
func freeSubnets(t TB) (v4, v6 string) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for {
		a, b := 64+rand.IntN(64), rand.IntN(256)
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(a), byte(b), 0}), 24)
		taken := false
		for _, x := range addresses {
			own, err := netip.ParsePrefix(x.String())
			taken = taken || err == nil && own.Overlaps(p)
		}
		if !taken {
			return p.String(), fmt.Sprintf("fd00:be%02x:%x::/64", a, b)
		}
	}
}

// FreePort returns a port of loopback that nothing listens on.
func FreePort(t TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
