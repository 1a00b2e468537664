package hostdevice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// Errors of a move.
var (
	ErrNoDevice = errors.New("no such interface on the host")
	ErrNotOurs  = errors.New("was not moved in: it has no alias")
)

// Plugin is the host-device plugin.
type Plugin struct {
	plugin.Leased
	host    *link.Space
	sysctls *link.Sysctls
	sys     sysfs
}

var _ plugin.Plugin = (*Plugin)(nil)

// New moves interfaces of host, and writes containers' variables by sysctls. Both stay the caller's.
func New(host *link.Space, sysctls *link.Sysctls) *Plugin {
	return &Plugin{Leased: leased, host: host, sysctls: sysctls, sys: "/sys"}
}

type config struct {
	Device        string    `json:"device"`
	HWAddr        string    `json:"hwaddr"`
	KernelPath    string    `json:"kernelpath"`
	PCIBusID      string    `json:"pciBusID"`
	DNS           types.DNS `json:"dns"`
	RuntimeConfig struct {
		DeviceID string `json:"deviceID"`
	} `json:"runtimeConfig"`
	IPAM struct {
		Type string `json:"type"`
	} `json:"ipam"`

	mac net.HardwareAddr
}

func parse(data []byte) (*config, error) {
	c := &config{}
	if err := plugin.Decode(data, c); err != nil {
		return nil, err
	}
	if c.Device+c.HWAddr+c.KernelPath+c.PCIBusID+c.RuntimeConfig.DeviceID == "" {
		return nil, plugin.Keyf("device", `missing, and so are "hwaddr", "kernelpath" and "pciBusID"`)
	}
	if c.KernelPath != "" && (!strings.HasPrefix(c.KernelPath, "/sys/devices/") || c.KernelPath != path.Clean(c.KernelPath)) {
		return nil, plugin.Keyf("kernelpath", "%s is no path below /sys/devices", c.KernelPath)
	}
	for _, id := range [][2]string{{"pciBusID", c.PCIBusID}, {"runtimeConfig.deviceID", c.RuntimeConfig.DeviceID}} {
		if id[1] != "" && (strings.Contains(id[1], "/") || strings.HasPrefix(id[1], ".")) {
			return nil, plugin.Keyf(id[0], "%q is no device", id[1])
		}
	}
	if c.HWAddr == "" {
		return c, nil
	}
	var err error
	if c.mac, err = net.ParseMAC(c.HWAddr); err != nil {
		return nil, plugin.Keyf("hwaddr", "%w", err)
	}
	return c, nil
}

func leased(c *plugin.Call) (string, error) {
	conf, err := parse(c.Config)
	if err != nil {
		return "", err
	}
	return conf.IPAM.Type, nil
}

// Keys are those of the configuration.
func (*Plugin) Keys() any { return config{} }

// Supports is always nil.
func (p *Plugin) Supports([]byte) error { return nil }

// Add moves the interface in.
func (p *Plugin) Add(ctx context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c.Config)
	if err != nil {
		return nil, err
	}
	at, err := p.sys.place(conf)
	if err != nil {
		return nil, err
	}
	if at.userspace() {
		return p.userspace(ctx, conf, c)
	}
	l, err := p.find(conf, at)
	if err != nil {
		return nil, err
	}
	var result *types100.Result
	looks := c.Looks(conf.IPAM.Type)
	if !looks { // when there are no addresses, nothing is to be undone
		if result, err = allocate(ctx, conf, c); err != nil {
			return nil, err
		}
	}
	if taken, err := c.Pod.Link(c.IfName); err != nil || taken != nil {
		return nil, errors.Join(err, fmt.Errorf("interface %s %w", c.IfName, podif.ErrExists))
	}
	if err := link.Move(p.host, l.Attrs().Index, c.Pod, c.IfName, l.Attrs().Name); err != nil {
		return nil, err
	}
	on := podif.Interface{Pod: c.Pod, Name: c.IfName, Sysctls: p.sysctls, Routers: true}
	if looks {
		if err := on.Expect(); err != nil {
			return nil, err
		}
		if result, err = allocate(ctx, conf, c); err != nil {
			return nil, err
		}
	}
	result.Interfaces = []*types100.Interface{{Name: c.IfName, Mac: l.Attrs().HardwareAddr.String(), Sandbox: c.NetNS}}
	return result, on.Configure(result)
}

// allocate has the IPAM plugin give addresses, if there is one.
func allocate(ctx context.Context, conf *config, c *plugin.Call) (*types100.Result, error) {
	result := &types100.Result{}
	if conf.IPAM.Type != "" {
		var err error
		if result, err = c.Allocate(ctx, conf.IPAM.Type, types.DNS{}); err != nil {
			return nil, err
		}
		result.DNS = conf.DNS
	}
	for _, ip := range result.IPs {
		ip.Interface = types100.Int(0)
	}
	return result, nil
}

// userspace is Add of a device that a program in the container drives: there is no interface, only addresses to tell of.
func (p *Plugin) userspace(ctx context.Context, conf *config, c *plugin.Call) (*types100.Result, error) {
	result, err := allocate(ctx, conf, c)
	if err != nil {
		return nil, err
	}
	result.Interfaces = []*types100.Interface{{Name: c.IfName, Sandbox: c.NetNS}}
	return result, nil
}

func (p *Plugin) find(conf *config, at place) (netlink.Link, error) {
	name, key := conf.Device, "device"
	if name == "" && conf.mac != nil {
		return p.findMAC(conf.mac)
	}
	if name == "" {
		var err error
		if name, err = at.name(); err != nil {
			return nil, err
		}
		key = at.key
	}
	l, err := p.host.Link(name)
	if err == nil && l == nil {
		err = plugin.Keyf(key, "%s: %w", name, ErrNoDevice)
	}
	return l, err
}

func (p *Plugin) findMAC(mac net.HardwareAddr) (netlink.Link, error) {
	links, err := link.Whole(p.host.Netlink().LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if bytes.Equal(l.Attrs().HardwareAddr, mac) {
			return l, nil
		}
	}
	return nil, plugin.Keyf("hwaddr", "%s: %w", mac, ErrNoDevice)
}

// Del moves the interface back, down, if it is there, and gives its addresses back.
func (p *Plugin) Del(ctx context.Context, c *plugin.Call) error {
	conf := &config{}
	if err := plugin.Decode(c.Config, conf); err != nil {
		return err
	}
	return c.Release(ctx, conf.IPAM.Type, func() error { return p.moveOut(c) })
}

func (p *Plugin) moveOut(c *plugin.Call) error {
	if c.Pod == nil {
		return nil
	}
	l, err := c.Pod.Link(c.IfName)
	if err != nil || l == nil {
		return err
	}
	name := l.Attrs().Alias
	if name == "" {
		return nil // not of an Add of ours: an Add that failed before it moved anything
	}
	return link.Move(c.Pod, l.Attrs().Index, p.host, name, "")
}

// Check compares the interface with the result of the Add.
func (p *Plugin) Check(ctx context.Context, c *plugin.Call) error {
	conf, err := parse(c.Config)
	if err != nil {
		return err
	}
	result, l, err := c.CheckIPAM(ctx, conf.IPAM.Type)
	if err != nil {
		return err
	}
	if l != nil && l.Attrs().Alias == "" {
		return fmt.Errorf("interface %s %w", c.IfName, ErrNotOurs)
	}
	if at, err := p.sys.place(conf); err == nil && at.userspace() {
		return nil
	}
	return podif.Check(c.Pod, c.IfName, result)
}
