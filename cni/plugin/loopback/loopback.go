// Package loopback is the CNI plugin that brings a pod's lo up.
package loopback

import (
	"context"
	"errors"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

const name = "lo"

// ErrDown says that a pod's loopback interface is not up.
var ErrDown = errors.New("loopback interface is down")

// Plugin is the loopback plugin.
type Plugin struct{}

var _ plugin.Plugin = Plugin{}

// index is lo's in every namespace (LOOPBACK_IFINDEX of linux/net_namespace.h).
const index = 1

// Up brings lo up in a pod. It may be called twice.
func Up(pod *link.Space) error {
	b := pod.Batch()
	b.Up(index)
	return b.Run()
}

// Keys are those of the configuration.
func (Plugin) Keys() any { return struct{}{} }

// Supports is always nil: the plugin has no keys.
func (Plugin) Supports([]byte) error { return nil }

// Add brings lo up, and passes the result of earlier plugins on.
func (Plugin) Add(_ context.Context, c *plugin.Call) (*types100.Result, error) {
	if err := Up(c.Pod); err != nil {
		return nil, err
	}
	if previous, err := plugin.Previous(c.Config); err != nil || previous != nil {
		return previous, err
	}
	result := &types100.Result{Interfaces: []*types100.Interface{{Name: name, Mac: "00:00:00:00:00:00", Sandbox: c.NetNS}}}
	addrs, err := c.Pod.Addresses(index)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		result.IPs = append(result.IPs, &types100.IPConfig{Interface: types100.Int(0), Address: *link.IPNet(a.Prefix)})
	}
	return result, nil
}

// Check is ErrDown when lo is not up.
func (Plugin) Check(_ context.Context, c *plugin.Call) error {
	lo, err := c.Pod.Link(name)
	if err != nil {
		return err
	}
	if lo == nil || lo.Attrs().Flags&net.FlagUp == 0 {
		return ErrDown
	}
	return nil
}

// Del leaves lo to the end of its namespace.
func (Plugin) Del(context.Context, *plugin.Call) error { return nil }

// Status is always nil.
func (Plugin) Status(context.Context, *plugin.Call) error { return nil }

// GC has nothing to collect.
func (Plugin) GC(context.Context, *plugin.Call, []types.GCAttachment) error { return nil }
