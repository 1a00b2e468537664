package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/nft"
)

// ErrMissing says that a published port is no longer led to the container.
var ErrMissing = errors.New("not published")

// memoTTL is how long what the host was prepared to is believed.
const memoTTL = 10 * time.Second

// Plugin is the portmap plugin.
type Plugin struct {
	host   *link.Space
	tables *nft.Tables
	memo   *link.Memo
}

var _ plugin.Plugin = (*Plugin)(nil)

// New publishes ports of host by tables. Both stay the caller's.
func New(host *link.Space, tables *nft.Tables) *Plugin {
	return &Plugin{host: host, tables: tables, memo: link.NewMemo(memoTTL)}
}

// Keys are those of the configuration.
func (*Plugin) Keys() any { return config{} }

// Supports is nil for all configurations but those with conditions or chains of another program, or that hide all who come by a port.
func (p *Plugin) Supports(data []byte) error {
	c, err := parse(data)
	if err != nil {
		return nil // Add says what is wrong with it
	}
	if c.ExternalSetMarkChain != nil {
		return plugin.Keyf("externalSetMarkChain", "is the iptables backend's")
	}
	if c.MasqAll && c.snat() { // as the reference plugin's other backend leaves it alone
		return plugin.Keyf("masqAll", "is the iptables backend's")
	}
	_, err = c.options()
	return err
}

// Add publishes the container's ports.
func (p *Plugin) Add(_ context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c.Config)
	if err != nil {
		return nil, err
	}
	previous, err := plugin.Previous(c.Config)
	if err != nil {
		return nil, err
	}
	to, err := targets(c, previous)
	if err != nil {
		return nil, err
	}
	var ports []nft.Port
	for _, addr := range to {
		ports = append(ports, conf.ports(addr)...)
	}
	if len(ports) == 0 {
		return previous, nil
	}
	opts, err := conf.options()
	if err != nil {
		return nil, err
	}
	if err := p.prepareHost(conf, to, previous, &opts); err != nil {
		return nil, err
	}
	if err := p.tables.Publish(conf.Name, c.Owner(), ports, opts); err != nil {
		return nil, err
	}
	return previous, p.forgetUDP(c.Owner(), ports)
}

// prepareHost lets 127.0.0.1 cross to the containers' interface, and learns whether bridges pass netfilter.
func (p *Plugin) prepareHost(conf *config, to []netip.Prefix, previous *types100.Result, opts *nft.Options) error {
	if !conf.snat() {
		return nil
	}
	for _, addr := range to {
		if !addr.Addr().Is4() {
			continue
		}
		if err := p.openLocalnet(addr, previous); err != nil {
			return err
		}
	}
	filtered, err := p.memo.Do("bridge-nf", func() (string, error) {
		return p.host.ReadSysctl("net/bridge/bridge-nf-call-iptables")
	})
	opts.Hairpin = filtered != "1"
	return err
}

// openLocalnet lets 127.0.0.1 leave by the interface that packets for addr leave by. That interface is asked for once a subnet and first
// interface of the result, which is the bridge where many containers are on one.
func (p *Plugin) openLocalnet(addr netip.Prefix, previous *types100.Result) error {
	key := "localnet " + addr.String()
	if len(previous.Interfaces) > 0 && previous.Interfaces[0].Sandbox == "" {
		key = "localnet " + addr.Masked().String() + " " + previous.Interfaces[0].Name
	}
	_, err := p.memo.Do(key, func() (string, error) {
		routes, err := p.host.Netlink().RouteGet(addr.Addr().AsSlice())
		if err != nil || len(routes) == 0 {
			return "", nil // no route, no packets
		}
		l, err := p.host.LinkAt(routes[0].LinkIndex)
		if err != nil || l == nil {
			return "", err
		}
		return "", p.host.SetSysctls("net/ipv4/conf/"+l.Attrs().Name, link.Sysctl{Name: "route_localnet", Value: "1"})
	})
	return err
}

// forgetUDP drops what connection tracking knows of published UDP ports: a sender that never pauses would otherwise go on to
// where the port led before.
func (p *Plugin) forgetUDP(owner string, ports []nft.Port) error {
	filters := map[netlink.InetFamily][]netlink.CustomConntrackFilter{}
	for _, port := range ports {
		if port.Protocol != nft.UDP {
			continue
		}
		family := netlink.InetFamily(unix.AF_INET)
		if port.To.Addr().Is6() {
			family = unix.AF_INET6
		}
		f := &netlink.ConntrackFilter{}
		if err := errors.Join(f.AddProtocol(uint8(nft.UDP)), f.AddPort(netlink.ConntrackOrigDstPort, port.Host)); err != nil {
			return fmt.Errorf("forget connections to port %d: %w", port.Host, err)
		}
		filters[family] = append(filters[family], f)
	}
	if len(filters) == 0 {
		return nil
	}
	if err := p.tables.Commit(owner); err != nil { // or a packet that comes now is tracked past the rules
		return err
	}
	return p.host.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return fmt.Errorf("open conntrack socket: %w", err)
		}
		defer h.Close()
		for family, list := range filters {
			// A kernel without ctnetlink, or a table that changes meanwhile: the port works, old senders may have to wait.
			_, _ = h.ConntrackDeleteFilters(netlink.ConntrackTable, family, list...)
		}
		return nil
	})
}

// Check is ErrMissing when a port is not led to the container.
func (p *Plugin) Check(_ context.Context, c *plugin.Call) error {
	conf, err := parse(c.Config)
	if err != nil {
		return err
	}
	previous, err := plugin.Previous(c.Config)
	if err != nil {
		return err
	}
	to, err := targets(c, previous)
	if err != nil {
		return err
	}
	for _, addr := range to {
		for _, port := range conf.ports(addr) {
			ok, err := p.tables.Published(conf.Name, c.Owner(), port)
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("host port %d/%s: %w", port.Host, port.Protocol, ErrMissing)
			}
		}
	}
	return nil
}

// Del takes the container's ports back, whatever the configuration says by now.
func (p *Plugin) Del(_ context.Context, c *plugin.Call) error {
	network, err := networkOf(c)
	if err != nil {
		return err
	}
	return p.tables.Release(network, c.Owner())
}

// Status holds the configuration against the plugin's rules.
func (p *Plugin) Status(_ context.Context, c *plugin.Call) error {
	_, err := parse(c.Config)
	return err
}

// GC takes back the ports of attachments that are not valid.
func (p *Plugin) GC(_ context.Context, c *plugin.Call, valid []types.GCAttachment) error {
	network, err := networkOf(c)
	if err != nil {
		return err
	}
	return p.tables.KeepPorts(network, plugin.Valid(valid))
}

func networkOf(c *plugin.Call) (string, error) {
	conf := types.PluginConf{}
	err := plugin.Decode(c.Config, &conf)
	return conf.Name, err
}
