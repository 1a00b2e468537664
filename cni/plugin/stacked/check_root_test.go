package stacked

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// TestRootCheckMissesWhatIsGone changes what a macvlan stands on, and then the macvlan.
func TestRootCheckMissesWhatIsGone(t *testing.T) {
	host := linktest.Host(t)
	far := func() *link.Space { path, _ := linktest.Pod(t); return linktest.Open(t, path) }()
	for _, name := range []string{"one", "two"} {
		if err := linktest.AddVeth(host, link.Veth{Name: name, MAC: link.RandomMAC(), Pod: far, PodName: name, PodMAC: link.RandomMAC()}); err != nil {
			t.Fatal(err)
		}
	}
	sysctls := &link.Sysctls{}
	t.Cleanup(sysctls.Close)
	p := New(Macvlan, host, sysctls)
	path, _ := linktest.Pod(t)
	refuse := error(nil)
	call := func(conf string) *plugin.Call {
		return &plugin.Call{
			Container: "c", IfName: "eth0", NetNS: path, Pod: linktest.Open(t, path), Config: []byte(`{"cniVersion":"1.0.0","name":"net","ipam":{"type":"x"}` + conf + `}`),
			IPAM: func(context.Context, string, string) (*types100.Result, error) {
				return &types100.Result{IPs: []*types100.IPConfig{{Address: net.IPNet{IP: net.IPv4(10, 0, 0, 2), Mask: net.CIDRMask(24, 32)}}}}, refuse
			},
		}
	}
	c := call(`,"master":"one"`)
	if _, err := p.Add(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	const result = `,"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.0.0.2/24","interface":0}]}`
	check := func(conf, want string, is error) {
		t.Helper()
		err := p.Check(t.Context(), call(conf))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) || is != nil && !errors.Is(err, is) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	check(`,"master":"one"`+result, "", nil)
	check(`,"master":"one"`, "prevResult", nil)
	check(`,"master":"two"`+result, "does not stand on two", podif.ErrChanged)
	check(`,"master":"three"`+result, "master: three", ErrNoMaster)
	refuse = errors.New("no such lease")
	check(`,"master":"one"`+result, "no such lease", refuse)
	refuse = nil
	index, err := c.Pod.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Pod.DeleteAt(index); err != nil {
		t.Fatal(err)
	}
	check(`,"master":"one"`+result, "it is no macvlan as configured", podif.ErrChanged)
	// Somebody else's interface of the name stays.
	if err := linktest.AddVeth(host, link.Veth{Name: "v0", MAC: link.RandomMAC(), Pod: c.Pod, PodName: "eth0", PodMAC: link.RandomMAC()}); err != nil {
		t.Fatal(err)
	}
	if err := p.Del(t.Context(), c); err != nil {
		t.Error(err)
	}
	if l, err := c.Pod.Link("eth0"); err != nil || l == nil {
		t.Errorf("it took another's: %v, %v", l, err)
	}
}
