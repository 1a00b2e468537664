package portmap

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/nft"
)

// TestRootCommands runs each command of the plugin on a host of its own, whose container has addresses of both families, and an interface that is
// not the container's.
func TestRootCommands(t *testing.T) {
	host := linktest.Host(t)
	tables := nft.New(host.FD(), "berth-test")
	t.Cleanup(func() { _ = tables.Close() })
	p := New(host, tables)
	const result = `"cniVersion":"1.0.0","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"/x"}],
		"ips":[{"address":"192.0.2.9/24","interface":0},{"address":"10.0.0.2/24","interface":1},{"address":"10.0.0.3/24","interface":1},{"address":"fd00::2/64","interface":1}]}`
	call := func(id, ports string) *plugin.Call {
		return &plugin.Call{Container: id, IfName: "eth0", Config: []byte(`{"name":"net","runtimeConfig":{"portMappings":[` + ports + `]},` + result + `}`)}
	}
	const web = `{"hostPort":8080,"containerPort":80,"protocol":"tcp"}`
	c := call("a", web+`,{"hostPort":53,"containerPort":53,"protocol":"udp"},{"hostPort":443,"containerPort":443,"protocol":"tcp","hostIP":"::1"}`)
	r, err := p.Add(t.Context(), c)
	if err != nil || len(r.IPs) != 4 {
		t.Fatal(r, err)
	}
	if err := errors.Join(p.Check(t.Context(), c), p.Status(t.Context(), c)); err != nil {
		t.Error(err)
	}
	// The container's first address of each family has the port; the bridge's has not.
	for to, want := range map[string]bool{"10.0.0.2/24": true, "10.0.0.3/24": false, "192.0.2.9/24": false, "fd00::2/64": true} {
		conf, err := parse(c.Config)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tables.Published("net", c.Owner(), conf.ports(netip.MustParsePrefix(to))[0])
		if got != want || err != nil {
			t.Errorf("%s: %t, %v", to, got, err)
		}
	}
	var taken *nft.TakenError
	if _, err := p.Add(t.Context(), call("b", web)); !errors.As(err, &taken) || taken.Holder != c.Owner() {
		t.Errorf("got %v", err)
	}
	none := call("c", "")
	if r, err := p.Add(t.Context(), none); err != nil || len(r.IPs) != 4 {
		t.Errorf("without ports: %v, %v", r, err)
	}
	alone := &plugin.Call{Container: "d", IfName: "eth0", Config: []byte(`{"name":"net","runtimeConfig":{"portMappings":[` + web + `]}}`)}
	bad := &plugin.KeyError{}
	if _, err := p.Add(t.Context(), alone); !errors.As(err, &bad) || bad.Key != "prevResult" {
		t.Errorf("chained behind nothing: %v", err)
	}
	for range 2 {
		if err := p.GC(t.Context(), c, []types.GCAttachment{{ContainerID: "a", IfName: "eth0"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Check(t.Context(), c); err != nil {
		t.Errorf("a valid one was collected: %v", err)
	}
	if err := p.GC(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(t.Context(), c); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "8080/tcp") {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if err := p.Del(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
}
