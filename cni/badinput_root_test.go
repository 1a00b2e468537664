package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin/bridge"
	"github.com/berth-runtime/berth/cni/plugin/hostlocal"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

// rolledBack holds the host and a pod against what they were before an ADD that failed: no lease, record, result, rule or port of the host is
// taken, and no interface is there but spared ones of the host.
func (w *world) rolledBack(t *testing.T, in *link.Space, spared ...string) {
	t.Helper()
	w.fabric.reaper.Close() // at once
	var left []string
	for space, may := range map[*link.Space][]string{w.host: append(spared, "lo"), in: {"lo"}} {
		links, err := space.Netlink().LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if !slices.Contains(may, l.Attrs().Name) {
				left = append(left, l.Type()+" "+l.Attrs().Name)
			}
		}
	}
	_ = filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" && !strings.HasPrefix(d.Name(), "last_reserved_ip.") {
			left = append(left, path)
		}
		return nil
	})
	if err := w.fabric.tables.Prune(); err != nil {
		t.Error(err)
	}
	names, err := w.fabric.tables.Names()
	if err != nil {
		t.Fatal(err)
	}
	left = append(left, names...)
	if len(w.book.claims.by)+len(w.book.attached) > 0 {
		left = append(left, fmt.Sprint(w.book.claims.by, w.book.attached))
	}
	if len(left) > 0 {
		t.Errorf("left of a pod that was not attached: %v", left)
	}
}

// TestRootBadInput gives configurations that cannot work. Each error names the file, the plugin and the key, and nothing of the pod stays:
// it is attached when the file is right.
func TestRootBadInput(t *testing.T) {
	w := newWorld(t, nil)
	uplinked(t, w.host, "192.0.2.1/25")
	uplink, err := w.host.Index("uplink")
	if err != nil {
		t.Fatal(err)
	}
	batch := w.host.Batch()
	batch.AddRoute(uplink, link.Route{Dst: netip.MustParsePrefix("10.44.0.0/24"), Gw: netip.MustParseAddr("192.0.2.2")})
	if err := batch.Run(); err != nil {
		t.Fatal(err)
	}
	chain := func(bridge, ipam string) string {
		return `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge","bridge":"br-err"` + bridge +
			`,"ipam":{"type":"host-local","dataDir":"` + w.dir + `/leases",` + ipam + `}},{"type":"portmap","capabilities":{"portMappings":true}}]}`
	}
	const subnet = `"subnet":"10.9.0.0/24"`
	behind := func(plugin string) string {
		return strings.Replace(chain(`,"ipMasq":true,"isGateway":true`, subnet), `{"type":"portmap"`, plugin+`,{"type":"portmap"`, 1)
	}
	cases := []struct {
		name, conf string
		want       []string
		is         error
	}{
		{"no JSON", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge",}]}`, []string{"invalid character"}, nil},
		{"half a file", `{"cniVersion":"1.0.0","name":"net","plug`, []string{"unexpected end of JSON"}, nil},
		{"not a list", `[]`, nil, nil},
		{"no plugins", `{"cniVersion":"1.0.0","name":"net","plugins":[]}`, []string{"plugins"}, nil},
		{"a name that is a path", `{"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"bridge"}]}`, []string{"name"}, nil},
		{"wrong type", chain(`,"mtu":"big"`, subnet), []string{"plugin bridge", "mtu"}, nil},
		{"vlan", chain(`,"vlan":5000`, subnet), []string{"plugin bridge", "vlan", "5000"}, nil},
		{"key of ours", chain(`,"berthDirekt":["10.0.0.0/8"]`, subnet), []string{"plugin bridge", "berthDirekt"}, nil},
		{"key of ours, below", chain(``, subnet+`,"berthX":1`), []string{"plugin bridge", "ipam.berthX"}, nil},
		{"host bits", chain(``, `"subnet":"10.9.0.1/24"`), []string{"plugin bridge", "ipam.subnet", "10.9.0.0/24"}, nil},
		{"start outside", chain(``, `"ranges":[[{"subnet":"10.9.0.0/24","rangeStart":"10.8.0.1"}]]`), []string{"ipam.ranges[0][0].rangeStart"}, nil},
		{"exhausted", chain(``, subnet+`,"rangeStart":"10.9.0.1","rangeEnd":"10.9.0.1"`), []string{"bridge", "host-local", "ipam: 10.9.0.1"}, hostlocal.ErrExhausted},
		{"address outside", chain(`,"args":{"cni":{"ips":["10.8.0.9"]}}`, subnet), []string{"bridge", "host-local", "args.cni.ips[0]", "10.8.0.9"}, hostlocal.ErrTaken},
		{"a network of the host", chain(`,"isGateway":true`, `"subnet":"192.0.2.0/24"`), []string{"bridge", "ipam", "192.0.2.0/25 of uplink"}, bridge.ErrOverlap},
		{"a route of the host", chain(`,"isGateway":true`, `"subnet":"10.44.0.0/24"`), []string{"bridge", "ipam", "10.44.0.0/24 of uplink"}, bridge.ErrOverlap},
		{"not a bridge", strings.Replace(chain(``, subnet), "br-err", "lo", 1), []string{"plugin type=\"bridge\"", "bridge: lo"}, bridge.ErrNotBridge},
		{"no plugin", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"nonesuch"}]}`, []string{"plugin nonesuch"}, ErrPluginMissing},
		{"version", `{"cniVersion":"9.0.0","name":"net","plugins":[{"type":"bridge"}]}`, []string{"plugin bridge", "cniVersion", "9.0.0"}, nil},
		{"a policy that is none", behind(`{"type":"firewall","ingressPolicy":"shut"}`), []string{"plugin firewall", "ingressPolicy", "shut"}, nil},
		{"a rate below a byte", behind(`{"type":"bandwidth","ingressRate":5,"ingressBurst":80}`), []string{"plugin bandwidth", "ingressRate"}, nil},
		{"no such variable", behind(`{"type":"tuning","sysctl":{"net.nonesuch":"1"}}`), []string{"tuning", "sysctl.net.nonesuch"}, nil},
		{"a variable of the node", behind(`{"type":"tuning","sysctl":{"kernel.panic":"1"}}`), []string{"tuning", "sysctl", "kernel.panic"}, nil},
		{"no interface to stand on", strings.Replace(chain(``, subnet), `"type":"bridge"`, `"type":"macvlan","master":"none"`, 1), []string{"macvlan", "master", "none"}, nil},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.write(t, "10-net.conflist", c.conf)
			a, _ := w.attachment(t, fmt.Sprintf("p%d", i), PortMapping{HostPort: 8080, ContainerPort: 80})
			pod, err := link.Open(a.NetNS)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = pod.Close() }()
			_, err = w.Add(context.Background(), a)
			if err == nil {
				t.Fatal("no error")
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
			for _, word := range append(c.want, "10-net.conflist") {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not name %s", err, word)
				}
			}
			w.rolledBack(t, pod, "uplink", "spare", "br-err")
			w.write(t, "10-net.conflist", chain(``, subnet))
			if _, err := w.Add(context.Background(), a); err != nil {
				t.Fatalf("with a file that is right: %v", err)
			}
			w.del(t, a)
		})
	}
}

// TestRootRollbackBehindEachPlugin has a chain fail behind each of its plugins, and at each of their own mistakes that a running host can
// bring about.
func TestRootRollbackBehindEachPlugin(t *testing.T) {
	w := newWorld(t, nil)
	w.foreign(t, "unlucky", `if [ $CNI_COMMAND = ADD ]; then echo '{"code":77,"msg":"no such luck"}'; exit 1; fi`)
	plugins := []string{
		`{"type":"bridge","bridge":"br-err","isDefaultGateway":true,"ipMasq":true,"macspoofchk":true,"hairpinMode":true,
		  "ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"` + w.dir + `/leases"}}`,
		`{"type":"portmap","capabilities":{"portMappings":true}}`,
		`{"type":"bandwidth","ingressRate":8000,"ingressBurst":80000,"egressRate":8000,"egressBurst":80000}`,
		`{"type":"firewall"}`,
		`{"type":"tuning","mtu":1400,"sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}}`,
	}
	for at := range len(plugins) + 1 {
		t.Run(fmt.Sprint("behind ", at), func(t *testing.T) {
			list := slices.Insert(slices.Clone(plugins), at, `{"type":"unlucky"}`)
			w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[`+strings.Join(list, ",")+`]}`)
			a, _ := w.attachment(t, fmt.Sprintf("p%d", at), PortMapping{HostPort: 8080, ContainerPort: 80}, PortMapping{HostPort: 53, ContainerPort: 53, Protocol: "UDP"})
			pod, err := link.Open(a.NetNS)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = pod.Close() }()
			if _, err = w.Add(context.Background(), a); err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), "unlucky") {
				t.Fatalf("got %v", err)
			}
			w.rolledBack(t, pod, "br-err")
			for name, prune := range map[string]func() error{"filter": w.fabric.filter.Prune, "guard": w.fabric.guard.Prune} {
				if err := prune(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			tables, err := w.nftables(t).ListTables()
			for _, k := range tables {
				if strings.HasPrefix(k.Name, "berth") {
					t.Errorf("table %s is left", k.Name)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}
