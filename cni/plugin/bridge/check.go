package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

// ErrChanged says that an attachment is no longer as its result says.
var ErrChanged = errors.New("is not as it was set up")

// Check compares the bridge, the pair, and the container's addresses and routes with the result of the Add.
func (p *Plugin) Check(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c)
	if err != nil {
		return err
	}
	result, err := plugin.Previous(c.Config)
	if err != nil {
		return err
	}
	if result == nil {
		return plugin.Keyf("prevResult", "missing")
	}
	if conf.IPAM.Type != "" {
		if _, err := c.IPAM(ctx, "CHECK", conf.IPAM.Type); err != nil {
			return fmt.Errorf("ipam %s: %w", conf.IPAM.Type, err)
		}
	}
	br, err := p.bridge(conf)
	if err != nil {
		return err
	}
	if br == nil {
		return fmt.Errorf("bridge %s %w: it is gone", conf.Bridge, ErrChanged)
	}
	l, err := c.Pod.Link(c.IfName)
	if err != nil {
		return err
	}
	if err := p.checkPair(c, l, br, result); err != nil {
		return err
	}
	return checkLayer3(c, l, result)
}

func (p *Plugin) checkPair(c *plugin.Call, l netlink.Link, br *netlink.Bridge, result *types100.Result) error {
	if l == nil || l.Type() != "veth" {
		return fmt.Errorf("interface %s %w: it is no veth", c.IfName, ErrChanged)
	}
	for _, i := range result.Interfaces {
		if i.Name == c.IfName && i.Sandbox != "" && i.Mac != "" && i.Mac != l.Attrs().HardwareAddr.String() {
			return fmt.Errorf("interface %s %w: MAC address %s, was %s", c.IfName, ErrChanged, l.Attrs().HardwareAddr, i.Mac)
		}
	}
	port, err := p.host.LinkAt(l.Attrs().ParentIndex)
	if err != nil {
		return err
	}
	if port == nil || port.Attrs().MasterIndex != br.Index {
		return fmt.Errorf("interface %s %w: its peer is no port of %s", c.IfName, ErrChanged, br.Name)
	}
	return nil
}

func checkLayer3(c *plugin.Call, l netlink.Link, result *types100.Result) error {
	have, err := c.Pod.Addresses(l.Attrs().Index)
	if err != nil {
		return err
	}
	for _, ip := range result.IPs {
		want := link.Prefix(ip.Address)
		if !slices.ContainsFunc(have, func(a link.Address) bool { return a.Prefix == want }) {
			return fmt.Errorf("interface %s %w: no address %s", c.IfName, ErrChanged, want)
		}
	}
	routes, err := c.Pod.Netlink().RouteList(l, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list routes of %s: %w", c.IfName, err)
	}
	for _, want := range result.Routes {
		if want.Table != nil {
			continue // RouteList shows the main table
		}
		if !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Dst != nil && r.Dst.String() == want.Dst.String() }) {
			return fmt.Errorf("interface %s %w: no route to %s", c.IfName, ErrChanged, want.Dst.String())
		}
	}
	return nil
}
