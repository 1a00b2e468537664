package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
)

// ErrNoAddress says that an IPAM plugin gave none.
var ErrNoAddress = errors.New("the IPAM plugin gave no address")

// Allocate runs the IPAM plugin of a configuration. The result has what that gave, but with dns for its DNS if dns says anything. It is
// ErrNoAddress when there is no address in it.
func (c *Call) Allocate(ctx context.Context, ipam string, dns types.DNS) (*types100.Result, error) {
	got, err := c.IPAM(ctx, "ADD", ipam)
	if err != nil {
		return nil, fmt.Errorf("ipam %s: %w", ipam, err)
	}
	if got == nil || len(got.IPs) == 0 {
		return nil, fmt.Errorf("ipam %s: %w", ipam, ErrNoAddress)
	}
	result := &types100.Result{IPs: got.IPs, Routes: got.Routes, DNS: got.DNS}
	if !dns.IsEmpty() {
		result.DNS = dns
	}
	return result, nil
}

// Looks says whether the IPAM plugin of a configuration may look for the interface that it gives addresses for, which then has to be there, up,
// from before its ADD to behind its DEL: dhcp sends by it. Those that run here don't, and processes may. It is false when ipam is "".
func (c *Call) Looks(ipam string) bool { return ipam != "" && c.Process != nil && c.Process(ipam) }

// Release has the IPAM plugin of a configuration release the addresses when takeOff has taken them off the interface: one that is still in
// use must not be given out again. An IPAM plugin that may look for the interface comes first.
func (c *Call) Release(ctx context.Context, ipam string, takeOff func() error) error {
	if c.Looks(ipam) {
		return errors.Join(c.TellIPAM(ctx, "DEL", ipam), takeOff())
	}
	if err := takeOff(); err != nil {
		return err
	}
	return c.TellIPAM(ctx, "DEL", ipam)
}

// TellIPAM runs another command than ADD of the IPAM plugin of a configuration. It does nothing when ipam is "".
func (c *Call) TellIPAM(ctx context.Context, command, ipam string) error {
	if ipam == "" {
		return nil
	}
	if _, err := c.IPAM(ctx, command, ipam); err != nil {
		return fmt.Errorf("ipam %s: %w", ipam, err)
	}
	return nil
}

// CheckIPAM is what the CHECK of a plugin with an IPAM plugin begins with: it returns the result of the ADD, after the IPAM plugin has checked
// what it gave, and the container's interface, nil when that is gone.
func (c *Call) CheckIPAM(ctx context.Context, ipam string) (*types100.Result, netlink.Link, error) {
	result, err := Required(c.Config)
	if err != nil {
		return nil, nil, err
	}
	if err := c.TellIPAM(ctx, "CHECK", ipam); err != nil {
		return nil, nil, err
	}
	l, err := c.Pod.Link(c.IfName)
	return result, l, err
}

// Leased is a plugin that holds nothing on the host but what its IPAM plugin gave: it has nothing else to be asked for or to collect. The
// function reads a configuration, holds it against the plugin's rules, and returns its ipam.type.
type Leased func(c *Call) (ipam string, err error)

// Status holds the configuration against the plugin's rules, and asks the IPAM plugin.
func (l Leased) Status(ctx context.Context, c *Call) error { return l.tell(ctx, c, "STATUS") }

// GC has the IPAM plugin release the addresses of attachments that are not valid.
func (l Leased) GC(ctx context.Context, c *Call, _ []types.GCAttachment) error {
	return l.tell(ctx, c, "GC")
}

func (l Leased) tell(ctx context.Context, c *Call, command string) error {
	ipam, err := l(c)
	if err != nil {
		return err
	}
	return c.TellIPAM(ctx, command, ipam)
}

// Required is Previous where there must be one.
func Required(config []byte) (*types100.Result, error) {
	result, err := Previous(config)
	if err == nil && result == nil {
		err = Keyf("prevResult", "missing: the plugin must be chained behind another")
	}
	return result, err
}
