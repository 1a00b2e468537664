package bridge

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// Check compares the bridge, the pair, and the container's addresses and routes with the result of the Add.
func (p *Plugin) Check(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c)
	if err != nil {
		return err
	}
	result, l, err := c.CheckIPAM(ctx, conf.IPAM.Type)
	if err != nil {
		return err
	}
	br, err := p.side.bridge(conf)
	if err != nil {
		return err
	}
	if br == nil {
		return fmt.Errorf("bridge %s %w: it is gone", conf.Bridge, podif.ErrChanged)
	}
	if err := p.checkPair(conf, c, l, br); err != nil {
		return err
	}
	return podif.Check(c.Pod, c.IfName, result)
}

func (p *Plugin) checkPair(conf *config, c *plugin.Call, l netlink.Link, br *netlink.Bridge) error {
	if l == nil || l.Type() != "veth" {
		return fmt.Errorf("interface %s %w: it is no veth", c.IfName, podif.ErrChanged)
	}
	port, err := p.host.LinkAt(l.Attrs().ParentIndex)
	if err != nil {
		return err
	}
	if port == nil || port.Attrs().MasterIndex != br.Index {
		return fmt.Errorf("interface %s %w: its peer is no port of %s", c.IfName, podif.ErrChanged, br.Name)
	}
	if !conf.MACSpoofCheck {
		return nil
	}
	held, err := p.guard.Held(c.Owner(), port.Attrs().Name, l.Attrs().HardwareAddr)
	if err == nil && !held {
		err = fmt.Errorf("interface %s %w: its port is not held to its MAC address", c.IfName, podif.ErrChanged)
	}
	return err
}
