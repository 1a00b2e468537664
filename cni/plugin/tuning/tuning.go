package tuning

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// Plugin is the tuning plugin.
type Plugin struct {
	allowlist string
}

var _ plugin.Plugin = (*Plugin)(nil)

// New makes the plugin.
func New() *Plugin { return &Plugin{allowlist: allowlistFile} }

// Keys are those of the configuration.
func (*Plugin) Keys() any {
	return struct {
		config
		settings
	}{}
}

// Supports is always nil.
func (p *Plugin) Supports([]byte) error { return nil }

// Add makes the changes, and passes the result on with the interface's new MAC address in it.
func (p *Plugin) Add(_ context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c)
	if err != nil {
		return nil, err
	}
	if err := conf.allowed(p.allowlist); err != nil {
		return nil, err
	}
	result, err := plugin.Required(c.Config)
	if err != nil {
		return nil, err
	}
	if err := setSysctls(c, conf); err != nil {
		return nil, err
	}
	if !conf.changesLink() {
		return result, nil
	}
	l, err := find(c)
	if err != nil {
		return nil, err
	}
	if err := save(conf, c, l); err != nil {
		return nil, err
	}
	if err := change(c.Pod, l, conf.wanted()); err != nil {
		return nil, err
	}
	for _, i := range result.Interfaces {
		if conf.MAC != "" && i.Name == c.IfName {
			i.Mac = conf.MAC
		}
	}
	return result, nil
}

func find(c *plugin.Call) (netlink.Link, error) {
	l, err := c.Pod.Link(c.IfName)
	if err == nil && l == nil {
		err = fmt.Errorf("interface %s: the plugins before made none", c.IfName)
	}
	return l, err
}

func setSysctls(c *plugin.Call, conf *config) error {
	for name, value := range conf.Sysctl {
		path, err := variable(name, c.IfName)
		if err != nil {
			return err
		}
		cut := strings.LastIndexByte(path, '/')
		if err := c.Pod.SetSysctls(path[:cut], link.Sysctl{Name: path[cut+1:], Value: value}); err != nil {
			return plugin.Keyf("sysctl."+name, "%w", err)
		}
	}
	return nil
}

// change gives an interface properties.
func change(pod *link.Space, l netlink.Link, to properties) error {
	h, name := pod.Netlink(), l.Attrs().Name
	if to.MAC != "" {
		mac, err := to.mac()
		if err != nil {
			return err
		}
		if err := h.LinkSetHardwareAddr(l, mac); err != nil {
			return fmt.Errorf("set MAC address of %s to %s: %w", name, to.MAC, err)
		}
	}
	for _, f := range []struct {
		what    string
		to      *bool
		on, off func(netlink.Link) error
	}{
		{"promiscuous mode", to.Promisc, h.SetPromiscOn, h.SetPromiscOff},
		{"all-multicast mode", to.Allmulti, h.LinkSetAllmulticastOn, h.LinkSetAllmulticastOff},
	} {
		if f.to == nil {
			continue
		}
		set := f.off
		if *f.to {
			set = f.on
		}
		if err := set(l); err != nil {
			return fmt.Errorf("set %s of %s: %w", f.what, name, err)
		}
	}
	if to.MTU != 0 {
		if err := h.LinkSetMTU(l, to.MTU); err != nil {
			return fmt.Errorf("set MTU of %s to %d: %w", name, to.MTU, err)
		}
	}
	if to.TxQLen != nil {
		if err := h.LinkSetTxQLen(l, *to.TxQLen); err != nil {
			return fmt.Errorf("set transmit queue of %s to %d: %w", name, *to.TxQLen, err)
		}
	}
	return nil
}

// Del puts the interface's properties back, if it is still there.
func (p *Plugin) Del(_ context.Context, c *plugin.Call) error {
	conf := &config{DataDir: defaultDataDir}
	if err := plugin.Decode(c.Config, conf); err != nil {
		return err
	}
	if conf.DataDir == "" {
		conf.DataDir = defaultDataDir
	}
	before, err := load(conf, c)
	if err != nil || before == nil {
		return err
	}
	if c.Pod != nil {
		l, err := c.Pod.Link(c.IfName)
		if err != nil {
			return err
		}
		if l != nil {
			if err := change(c.Pod, l, *before); err != nil {
				return err
			}
		}
	}
	return forget(conf, c)
}

// Check compares variables and properties with the configuration.
func (p *Plugin) Check(_ context.Context, c *plugin.Call) error {
	conf, err := parse(c)
	if err != nil {
		return err
	}
	if _, err := plugin.Required(c.Config); err != nil {
		return err
	}
	for name, want := range conf.Sysctl {
		path, err := variable(name, c.IfName)
		if err != nil {
			return err
		}
		have, err := c.Pod.ReadSysctl(path)
		if err != nil {
			return plugin.Keyf("sysctl."+name, "%w", err)
		}
		if have != want {
			return plugin.Keyf("sysctl."+name, "%w: it is %s, was %s", podif.ErrChanged, have, want)
		}
	}
	l, err := find(c)
	if err != nil {
		return err
	}
	return conf.check(l.Attrs())
}

func (c *config) check(l *netlink.LinkAttrs) error {
	changed := func(what string, have, want any) error {
		return fmt.Errorf("interface %s %w: %s %v, was %v", l.Name, podif.ErrChanged, what, have, want)
	}
	var errs []error
	if c.mac != nil && c.mac.String() != l.HardwareAddr.String() {
		errs = append(errs, changed("MAC address", l.HardwareAddr, c.mac))
	}
	if c.promisc() != (l.Promisc != 0) {
		errs = append(errs, changed("promiscuous mode", l.Promisc != 0, c.promisc()))
	}
	if c.MTU != 0 && c.MTU != l.MTU {
		errs = append(errs, changed("MTU", l.MTU, c.MTU))
	}
	if all := l.RawFlags&unix.IFF_ALLMULTI != 0; c.Allmulti != nil && *c.Allmulti != all {
		errs = append(errs, changed("all-multicast mode", all, *c.Allmulti))
	}
	if c.TxQLen != nil && *c.TxQLen != l.TxQLen {
		errs = append(errs, changed("transmit queue", l.TxQLen, *c.TxQLen))
	}
	return errors.Join(errs...)
}

// Status holds the configuration against the plugin's rules.
func (p *Plugin) Status(_ context.Context, c *plugin.Call) error {
	conf, err := parse(c)
	if err != nil {
		return err
	}
	for name := range conf.Sysctl {
		if _, err := variable(name, "eth0"); err != nil {
			return err
		}
	}
	return conf.allowed(p.allowlist)
}

// GC has nothing to collect: what is kept is overwritten by the next of the same name, and ends with the machine.
func (p *Plugin) GC(context.Context, *plugin.Call, []types.GCAttachment) error { return nil }
