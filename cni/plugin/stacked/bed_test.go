package stacked

import (
	"context"
	"net"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// bed is the plugin on a host of its own, with an IPAM plugin that gives 10.0.0.2/24.
type bed struct {
	*Plugin
	t       *testing.T
	host    *link.Space
	refusal error // of the IPAM plugin; nil: none
}

func newBed(t *testing.T, kind Kind) *bed {
	host, sysctls := linktest.Host(t), &link.Sysctls{}
	t.Cleanup(sysctls.Close)
	return &bed{Plugin: New(kind, host, sysctls), t: t, host: host}
}

// call is one for a container of its own. The keys come after the name, with a comma before each.
func (b *bed) call(keys string) *plugin.Call {
	path, _ := linktest.Pod(b.t)
	return &plugin.Call{
		Container: "c", IfName: "eth0", NetNS: path, Pod: linktest.Open(b.t, path), Config: whole(keys),
		IPAM: func(context.Context, string, string) (*types100.Result, error) {
			return &types100.Result{IPs: []*types100.IPConfig{{Address: net.IPNet{IP: net.IPv4(10, 0, 0, 2), Mask: net.CIDRMask(24, 32)}}}}, b.refusal
		},
	}
}

// with is the call with other keys.
func with(c *plugin.Call, keys string) *plugin.Call {
	other := *c
	other.Config = whole(keys)
	return &other
}

func whole(keys string) []byte { return []byte(`{"cniVersion":"1.0.0","name":"net"` + keys + `}`) }
