package hostlocal

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin"
)

// bed is a plugin with a folder for its leases.
type bed struct {
	*Plugin
	t    *testing.T
	dir  string
	ipam string // keys of ipam
	more string // further keys of the configuration
}

func newBed(t *testing.T, ipam string) *bed {
	return &bed{Plugin: New(), t: t, dir: t.TempDir(), ipam: ipam}
}

func (b *bed) call(id, args string) *plugin.Call {
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","ipam":{"type":"host-local","dataDir":%q,%s}%s}`, b.dir, b.ipam, b.more)
	return &plugin.Call{Container: id, IfName: "eth0", Args: args, Config: []byte(conf)}
}

func (b *bed) add(id string) (string, error) { return b.addWith(id, "") }

func (b *bed) addWith(id, args string) (string, error) {
	r, err := b.Add(context.Background(), b.call(id, args))
	return addresses(r), err
}

func addresses(r *types100.Result) string {
	if r == nil {
		return ""
	}
	var out []string
	for _, ip := range r.IPs {
		out = append(out, ip.Address.String())
	}
	return strings.Join(out, " ")
}

func (b *bed) want(id, addrs string) {
	b.t.Helper()
	if got, err := b.add(id); err != nil || got != addrs {
		b.t.Fatalf("%s got %q, %v; want %q", id, got, err, addrs)
	}
}

func (b *bed) del(id string) {
	b.t.Helper()
	if err := b.Del(context.Background(), b.call(id, "")); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) leases() []string {
	entries, _ := os.ReadDir(filepath.Join(b.dir, "net"))
	var out []string
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err == nil {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestAddressesGoRound(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/29"`)
	b.want("a", "10.0.0.2/29")
	b.want("b", "10.0.0.3/29")
	b.del("a")
	b.want("c", "10.0.0.4/29") // the free one rests
	b.want("d", "10.0.0.5/29")
	b.want("e", "10.0.0.6/29") // .7 is the broadcast address
	b.want("f", "10.0.0.2/29")
	if _, err := b.add("g"); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %v", err)
	}
	b.del("c")
	b.want("g", "10.0.0.4/29")
}

func TestRangesOfASet(t *testing.T) {
	b := newBed(t, `"ranges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.8","rangeEnd":"10.0.0.9","gateway":"10.0.0.8"},
		{"subnet":"10.0.1.0/24","rangeStart":"10.0.1.1","rangeEnd":"10.0.1.2"}],[{"subnet":"fd00::/126"}]]`)
	b.want("a", "10.0.0.9/24 fd00::2/126")
	b.want("b", "10.0.1.2/24 fd00::3/126")
	_, err := b.add("c")
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "ipam.ranges[0]") {
		t.Errorf("got %v", err)
	}
	b.del("b")
	b.want("c", "10.0.1.2/24 fd00::3/126")
}

func TestAllOrNothing(t *testing.T) {
	b := newBed(t, `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/126","rangeStart":"fd00::1","rangeEnd":"fd00::1"}]]`)
	if _, err := b.add("a"); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %v", err)
	}
	if left := b.leases(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestFilesAreTheReferencePlugins(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	b.want("some-id", "10.0.0.2/24")
	for name, want := range map[string]string{"10.0.0.2": "some-id\r\neth0", "last_reserved_ip.0": "10.0.0.2", "lock": ""} {
		got, err := os.ReadFile(filepath.Join(b.dir, "net", name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestAnotherProcessChangesTheFolder(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	b.want("a", "10.0.0.2/24")
	dir := filepath.Join(b.dir, "net")
	time.Sleep(10 * time.Millisecond) // times of files go by the kernel's tick
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10.0.0.3", "theirs\r\neth0")
	write("10.0.0.9", "old") // as plugins before 0.7 wrote it
	b.want("b", "10.0.0.4/24")
	b.del("theirs")
	b.del("old")
	if got := b.leases(); !reflect.DeepEqual(got, []string{"10.0.0.2", "10.0.0.4"}) {
		t.Errorf("leases %v", got)
	}
	if err := os.Remove(filepath.Join(dir, "10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	b.want("a", "10.0.0.5/24")
}

func TestLockOfAnotherProcess(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	b.want("a", "10.0.0.2/24")
	f, err := os.Open(filepath.Join(b.dir, "net", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err := b.Add(ctx, b.call("b", "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	b.want("b", "10.0.0.3/24")
}

func TestRequestedAddress(t *testing.T) {
	b := newBed(t, `"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]`)
	if got, err := b.addWith("a", "IgnoreUnknown=1;IP=10.0.0.77"); err != nil || got != "10.0.0.77/24 fd00::2/64" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := b.addWith("b", "IP=10.0.0.77"); !errors.Is(err, ErrTaken) {
		t.Errorf("taken: %v", err)
	}
	if _, err := b.addWith("c", "IP=10.0.0.1"); !errors.Is(err, ErrTaken) {
		t.Errorf("gateway: %v", err)
	}
	if _, err := b.addWith("d", "IP=10.1.0.1"); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "10.1.0.1") {
		t.Errorf("outside: %v", err)
	}
	if _, err := b.addWith("e", "IP=nine"); err == nil || !strings.Contains(err.Error(), "CNI_ARGS") {
		t.Errorf("no address: %v", err)
	}
	b.more = `,"args":{"cni":{"ips":["10.0.0.80/24"]}},"runtimeConfig":{"ips":["fd00::80"]}`
	if got, err := b.add("f"); err != nil || got != "10.0.0.80/24 fd00::80/64" {
		t.Errorf("%s, %v", got, err)
	}
	if got := b.leases(); len(got) != 4 {
		t.Errorf("leases %v", got)
	}
}

func TestDuplicateAndCheck(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	check := func(id string) error { return b.Check(context.Background(), b.call(id, "")) }
	b.want("a", "10.0.0.2/24")
	if _, err := b.add("a"); !errors.Is(err, ErrDuplicate) {
		t.Errorf("got %v", err)
	}
	if err := check("a"); err != nil {
		t.Error(err)
	}
	b.del("a")
	b.del("a")
	if err := check("a"); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v", err)
	}
}

func TestGC(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	if err := b.GC(context.Background(), b.call("", ""), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "net")); err == nil {
		t.Error("collecting made a folder")
	}
	b.want("a", "10.0.0.2/24")
	b.want("b", "10.0.0.3/24")
	if err := os.WriteFile(filepath.Join(b.dir, "net", "10.0.0.9"), nil, 0o600); err != nil { // torn by a power loss
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	fresh := New()
	if err := fresh.GC(context.Background(), b.call("", ""), []types.GCAttachment{{ContainerID: "b", IfName: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	if got := b.leases(); !reflect.DeepEqual(got, []string{"10.0.0.3"}) {
		t.Errorf("leases %v", got)
	}
}

func TestParallel(t *testing.T) {
	b := newBed(t, `"subnet":"10.0.0.0/24"`)
	other := New() // as another process: nothing shared but the folder
	var mu sync.Mutex
	seen := map[string]int{}
	var done sync.WaitGroup
	for i := range 40 {
		done.Go(func() {
			p := b.Plugin
			if i%2 == 0 {
				p = other
			}
			r, err := p.Add(context.Background(), b.call(fmt.Sprint("c", i), ""))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			seen[addresses(r)]++
			mu.Unlock()
		})
	}
	done.Wait()
	if len(seen) != 40 {
		t.Errorf("%d addresses for 40", len(seen))
	}
}

func TestRoutesAndDNS(t *testing.T) {
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# c\n; c\nnameserver 10.0.0.10\nnameserver\nsearch a b\nsearch c\noptions ndots:5\ndomain local\nsortlist x\n"
	if err := os.WriteFile(resolv, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBed(t, fmt.Sprintf(`"subnet":"10.0.0.0/24","routes":[{"dst":"0.0.0.0/0"},{"dst":"10.1.0.0/16","gw":"10.0.0.9"}],"resolvConf":%q`, resolv))
	r, err := b.Add(context.Background(), b.call("a", ""))
	if err != nil {
		t.Fatal(err)
	}
	want := types.DNS{Nameservers: []string{"10.0.0.10"}, Domain: "local", Search: []string{"a", "b", "c"}, Options: []string{"ndots:5"}}
	if !reflect.DeepEqual(r.DNS, want) {
		t.Errorf("dns %+v", r.DNS)
	}
	if len(r.Routes) != 2 || r.Routes[1].GW.String() != "10.0.0.9" {
		t.Errorf("routes %v", r.Routes)
	}
	b.ipam = `"subnet":"10.0.0.0/24","resolvConf":"/nonexistent"`
	if _, err := b.add("b"); err == nil || !strings.Contains(err.Error(), "ipam.resolvConf") {
		t.Errorf("got %v", err)
	}
}

func TestMistakesNameTheKey(t *testing.T) {
	for ipam, key := range map[string]string{
		`"x":1`:                                        "ipam.ranges",
		`"subnet":"10.0.0"`:                            "ipam.subnet",
		`"subnet":7`:                                   "subnet",
		`"subnet":"10.0.0.0/31"`:                       "ipam.subnet",
		`"subnet":"::ffff:10.0.0.0/120"`:               "ipam.subnet",
		`"subnet":"10.0.0.0/24","gateway":"x"`:         "ipam.gateway",
		`"subnet":"10.0.0.0/24","rangeEnd":"10.0.1.1"`: "ipam.rangeEnd",
		`"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"`: "ipam.rangeEnd",
		`"subnet":"10.0.0.0/24","rangeStart":"fd00::1"`:                        "ipam.rangeStart",
		`"ranges":[[]]`: "ipam.ranges[0]",
		`"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]]`:     "ipam.ranges[0][1].subnet",
		`"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"10.0.0.0/25"}]]`:   "ipam.ranges[0][1]",
		`"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"10.0.0.0/25"}]]`: "ipam.ranges[1]",
		`"subnet":"10.0.0.0/24","ranges":[[{"subnet":"10.0.0.0/24"}]]`:     "ipam.ranges[0]",
		`"subnet":"10.0.0.0/24","routes":[{"dst":"10.0.0.0/99"}]`:          "ipam.routes[0]",
	} {
		b := newBed(t, ipam)
		_, err := b.add("a")
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || !strings.Contains(bad.Key, key) {
			t.Errorf("%s: %v", ipam, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"name":"n","ipam":{"subnet":"10.0.0.0/24"}}`), "10.0.0.5")
	f.Add([]byte(`{"name":"n","ipam":{"ranges":[[{"subnet":"fd00::/126","rangeStart":"fd00::2"}]]}}`), "")
	f.Add([]byte(`{"name":"n","ipam":{"subnet":"0.0.0.0/0"},"runtimeConfig":{"ips":["::1%eth0"]}}`), "x")
	f.Fuzz(func(t *testing.T, data []byte, ip string) {
		c, err := parse(data, ip)
		if err != nil {
			return
		}
		for _, set := range c.sets {
			n := 0
			for r, addr := range set.from(set[0].last) {
				if !r.subnet.Contains(addr) || addr == r.gateway || !r.contains(addr) {
					t.Fatalf("%s gave out %s", r, addr)
				}
				if n++; n == 100 {
					break
				}
			}
		}
	})
}

func TestFromWalksAllOnce(t *testing.T) {
	set, err := parseSet("x", []rawRange{{Subnet: "10.0.0.0/29"}, {Subnet: "10.0.1.0/30"}})
	if err != nil {
		t.Fatal(err)
	}
	all := func(last string) []string {
		addr, _ := netip.ParseAddr(last)
		var out []string
		for _, a := range set.from(addr) {
			out = append(out, a.String())
		}
		return out
	}
	want := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.1.2"}
	for i, last := range want {
		if got := all(last); !reflect.DeepEqual(got, slices.Concat(want[i+1:], want[:i+1])) {
			t.Errorf("after %s: %v", last, got)
		}
	}
	for _, last := range []string{"", "192.0.2.1"} {
		if got := all(last); !reflect.DeepEqual(got, want) {
			t.Errorf("after %q: %v", last, got)
		}
	}
}
