package link_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

func TestMACFor(t *testing.T) {
	if got := link.MACFor(netip.MustParseAddr("10.88.0.2")).String(); got != "0a:58:0a:58:00:02" {
		t.Errorf("v4 %s", got)
	}
	a, b := link.MACFor(netip.MustParseAddr("fd00::2")), link.MACFor(netip.MustParseAddr("fd00::3"))
	if a.String() == b.String() || a.String() != link.MACFor(netip.MustParseAddr("fd00::2")).String() {
		t.Errorf("v6 %s, %s", a, b)
	}
	for _, mac := range [][]byte{a, b, link.RandomMAC()} {
		if mac[0]&3 != 2 {
			t.Errorf("% x is no local unicast address", mac)
		}
	}
}

func TestMemo(t *testing.T) {
	m := link.NewMemo(20 * time.Millisecond)
	calls := 0
	do := func(err error) (string, error) {
		return m.Do("key", func() (string, error) { calls++; return "value", err })
	}
	if _, err := do(errors.New("no")); err == nil {
		t.Error("the error is lost")
	}
	for range 3 {
		if v, err := do(nil); v != "value" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	}
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
	time.Sleep(25 * time.Millisecond)
	if _, _ = do(nil); calls != 3 {
		t.Errorf("%d calls after its time", calls)
	}
}

func TestOpenGone(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "unpinned")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, path := range []string{plain, plain + "x", "/proc/self/ns/uts", socket} {
		if s, err := link.Open(path); !errors.Is(err, link.ErrGone) {
			t.Errorf("%s: %v, %v", path, s, err)
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, s := range []string{"10.0.0.2/24", "fd00::2/64", "0.0.0.0/0"} {
		p := netip.MustParsePrefix(s)
		if got := link.Prefix(*link.IPNet(p)); got != p {
			t.Errorf("%s became %s", p, got)
		}
	}
}

// pair joins a new pod to the host, both ends named.
func pair(t *testing.T, host *link.Space, name string) (pod *link.Space, index int, end func()) {
	t.Helper()
	path, remove := linktest.Pod(t)
	pod, err := link.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	v := link.Veth{Name: name, MAC: link.RandomMAC(), Pod: pod, PodName: "eth0", PodMAC: link.RandomMAC(), MTU: 1400}
	if err := linktest.AddVeth(host, v); err != nil {
		t.Fatal(err)
	}
	if err := linktest.UpPort(host, name, link.Port{}); err != nil {
		t.Fatal(err)
	}
	l, err := host.Link(name)
	if err != nil || l == nil {
		t.Fatal(err)
	}
	return pod, l.Attrs().Index, func() { _ = pod.Close(); remove() }
}

func TestRootVeth(t *testing.T) {
	host := linktest.Host(t)
	pod, index, end := pair(t, host, "v0")
	defer end()
	eth0, err := pod.Link("eth0")
	if err != nil || eth0 == nil || eth0.Attrs().MTU != 1400 || eth0.Attrs().ParentIndex != index {
		t.Fatalf("%+v, %v", eth0, err)
	}
	at := eth0.Attrs().Index
	for _, s := range []string{"10.0.0.2/24", "fd00::2/64"} {
		if err := linktest.AddAddress(pod, at, netip.MustParsePrefix(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := linktest.Up(pod, at); err != nil {
		t.Fatal(err)
	}
	have, err := pod.Addresses(at)
	if err != nil || len(have) < 2 {
		t.Fatalf("%v, %v", have, err)
	}
	for _, a := range have {
		if a.Tentative && a.Scope == 0 {
			t.Errorf("%s waits for duplicate address detection", a.Prefix)
		}
	}
	if have, err := host.Addresses(index); err != nil || len(have) > 0 {
		t.Errorf("the port has addresses: %v, %v", have, err)
	}
	if have, err := host.Addresses(9999); err != nil || len(have) > 0 {
		t.Errorf("of no interface: %v, %v", have, err)
	}
	for range 2 {
		if err := pod.DeleteAddress(at, netip.MustParsePrefix("10.0.0.2/24")); err != nil {
			t.Error(err)
		}
		if err := host.DeleteAt(index); err != nil {
			t.Error(err)
		}
	}
}

func TestRootReaper(t *testing.T) {
	host := linktest.Host(t)
	reaper := link.NewReaper(host, 50*time.Millisecond)
	_, soon, end := pair(t, host, "v0")
	defer end()
	_, late, end2 := pair(t, host, "v1")
	defer end2()
	_, gone, end3 := pair(t, host, "v2")
	reaper.Later(soon)
	reaper.Later(soon)
	end3()
	reaper.Later(gone)
	deadline := time.Now().Add(5 * time.Second)
	for {
		l, err := host.LinkAt(soon)
		if err != nil {
			t.Fatal(err)
		}
		if l == nil && !reaper.Has(soon) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was reaped")
		}
		time.Sleep(5 * time.Millisecond)
	}
	reaper.Later(late)
	reaper.Close()
	if l, err := host.LinkAt(late); err != nil || l != nil {
		t.Errorf("closing left %v, %v", l, err)
	}
}

func TestRootSysctl(t *testing.T) {
	host := linktest.Host(t)
	if err := host.SetSysctls("net/ipv4", link.Sysctl{Name: "ip_forward", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	if v, err := host.ReadSysctl("net/ipv4/ip_forward"); v != "1" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if v, err := host.ReadSysctl("net/ipv4/nonesuch"); v != "" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if err := host.SetSysctls("net/ipv4/conf/nonesuch", link.Sysctl{Name: "x", Value: "1"}); err == nil {
		t.Error("a folder that is not there")
	}
}
