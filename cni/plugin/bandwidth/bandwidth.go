package bandwidth

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

const (
	ifbPrefix = "bwp"
	ifbName   = 15 // length of its name
)

// ErrNoPeer says that the container's interface is not the end of a pair whose other end the host has.
var ErrNoPeer = errors.New("has no end on the host to be limited at")

// Plugin is the bandwidth plugin.
type Plugin struct {
	host   *link.Space
	reaper *link.Reaper
}

var _ plugin.Plugin = (*Plugin)(nil)

// New limits at interfaces of host, and leaves those that it made itself to reaper. Both stay the caller's.
func New(host *link.Space, reaper *link.Reaper) *Plugin { return &Plugin{host: host, reaper: reaper} }

// limits are the configuration's, or the capability's. Zero is no limit.
type limits struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

type config struct {
	Name          string `json:"name"`
	RuntimeConfig struct {
		Bandwidth limits `json:"bandwidth"`
	} `json:"runtimeConfig"`
	limits `json:"-"` // read by itself: an error names its keys as they are written
}

func parse(data []byte) (*config, error) {
	c := &config{}
	if err := plugin.Decode(data, c); err != nil {
		return nil, err
	}
	if err := plugin.Decode(data, &c.limits); err != nil {
		return nil, err
	}
	prefix := ""
	if c.limits == (limits{}) {
		c.limits, prefix = c.RuntimeConfig.Bandwidth, "runtimeConfig.bandwidth."
	}
	for _, l := range []struct {
		key         string
		rate, burst uint64
	}{{"ingress", c.IngressRate, c.IngressBurst}, {"egress", c.EgressRate, c.EgressBurst}} {
		switch {
		case l.rate == 0 && l.burst != 0:
			return nil, plugin.Keyf(prefix+l.key+"Rate", "missing: there is a burst")
		case l.rate != 0 && l.burst == 0:
			return nil, plugin.Keyf(prefix+l.key+"Burst", "missing: there is a rate")
		case l.rate != 0 && l.rate < 8:
			return nil, plugin.Keyf(prefix+l.key+"Rate", "%d bits a second is less than a byte", l.rate)
		case l.burst/8 >= math.MaxUint32:
			return nil, plugin.Keyf(prefix+l.key+"Burst", "%d bits is more than 4 GiB", l.burst)
		}
	}
	return c, nil
}

// ifb is the name of the interface that a container sends by.
func ifb(network, container string) string {
	return fmt.Sprintf("%s%x", ifbPrefix, sha512.Sum512([]byte(network+container)))[:ifbName]
}

// Keys are those of the configuration.
func (*Plugin) Keys() any {
	return struct {
		config
		limits
	}{}
}

// Supports is nil for all but limits to some subnets only, which later reference plugins know.
func (p *Plugin) Supports(data []byte) error {
	c := struct {
		Shaped   []string `json:"shapedSubnets"`
		Unshaped []string `json:"unshapedSubnets"`
	}{}
	if err := plugin.Decode(data, &c); err == nil && len(c.Shaped)+len(c.Unshaped) > 0 {
		return plugin.Keyf("shapedSubnets", "and unshapedSubnets are the reference plugin's")
	}
	return nil
}

// Add limits the container, and passes the result on with the ifb in it.
func (p *Plugin) Add(_ context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c.Config)
	if err != nil {
		return nil, err
	}
	if conf.limits == (limits{}) {
		return plugin.Previous(c.Config)
	}
	result, err := plugin.Required(c.Config)
	if err != nil {
		return nil, err
	}
	end, err := p.peer(c, result)
	if err != nil {
		return nil, err
	}
	if conf.IngressRate > 0 {
		if err := p.bucket(conf.IngressRate, conf.IngressBurst, end.Attrs()); err != nil {
			return nil, err
		}
	}
	if conf.EgressRate == 0 {
		return result, nil
	}
	l, err := p.addIFB(ifb(conf.Name, c.Container), end)
	if err != nil {
		return nil, err
	}
	result.Interfaces = append(result.Interfaces, &types100.Interface{Name: l.Attrs().Name, Mac: l.Attrs().HardwareAddr.String()})
	if err := p.lead(end, l); err != nil {
		return nil, err
	}
	return result, p.bucket(conf.EgressRate, conf.EgressBurst, l.Attrs())
}

// peer is the host's end of the container's pair, which must be one that the plugins before tell of.
func (p *Plugin) peer(c *plugin.Call, result *types100.Result) (netlink.Link, error) {
	l, err := c.Pod.Link(c.IfName)
	if err != nil {
		return nil, err
	}
	if l == nil || l.Type() != "veth" || l.Attrs().ParentIndex == 0 {
		return nil, fmt.Errorf("interface %s %w: it is no veth", c.IfName, ErrNoPeer)
	}
	end, err := p.host.LinkAt(l.Attrs().ParentIndex)
	if err != nil {
		return nil, err
	}
	for _, i := range result.Interfaces {
		if end != nil && i.Sandbox == "" && i.Name == end.Attrs().Name {
			return end, nil
		}
	}
	return nil, fmt.Errorf("interface %s %w: the plugins before made none", c.IfName, ErrNoPeer)
}

// addIFB makes the ifb, up. One of the name that only waits for the reaper goes first.
func (p *Plugin) addIFB(name string, end netlink.Link) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags, attrs.TxQLen = name, end.Attrs().MTU, unix.IFF_UP, 0
	err := p.host.Netlink().LinkAdd(&netlink.Ifb{LinkAttrs: attrs})
	if errors.Is(err, unix.EEXIST) {
		old, look := p.host.Link(name)
		if look != nil {
			return nil, look
		}
		if old != nil && !p.reaper.Has(old.Attrs().Index) {
			return nil, fmt.Errorf("interface %s %w", name, podif.ErrExists)
		}
		if old != nil {
			if err := p.reaper.Now(old.Attrs().Index); err != nil {
				return nil, err
			}
		}
		err = p.host.Netlink().LinkAdd(&netlink.Ifb{LinkAttrs: attrs})
	}
	if err != nil {
		return nil, fmt.Errorf("make ifb %s: %w", name, err)
	}
	l, err := p.host.Link(name)
	if err == nil && l == nil {
		err = fmt.Errorf("interface %s: gone while it was set up", name)
	}
	return l, err
}

// lead sends all that comes in by an interface out by another, and back in there behind its bucket.
func (p *Plugin) lead(from, to netlink.Link) error {
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: from.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
	}}
	if err := p.host.Netlink().QdiscAdd(ingress); err != nil {
		return fmt.Errorf("add ingress qdisc to %s: %w", from.Attrs().Name, err)
	}
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: from.Attrs().Index, Parent: ingress.Handle, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		ClassId: netlink.MakeHandle(1, 1), RedirIndex: to.Attrs().Index,
		Actions: []netlink.Action{&netlink.MirredAction{MirredAction: netlink.TCA_EGRESS_REDIR, Ifindex: to.Attrs().Index}},
	}
	if err := p.host.Netlink().FilterAdd(filter); err != nil {
		return fmt.Errorf("lead %s to %s: %w", from.Attrs().Name, to.Attrs().Name, err)
	}
	return nil
}

// bucket puts a token bucket on an interface. A packet waits at most 25 ms in it, and is dropped otherwise.
func (p *Plugin) bucket(rate, burst uint64, on *netlink.LinkAttrs) error {
	if err := p.host.Netlink().QdiscAdd(tokenBucket(rate, burst, on.Index)); err != nil {
		return fmt.Errorf("limit %s: %w", on.Name, err)
	}
	return nil
}

func tokenBucket(rate, burst uint64, index int) *netlink.Tbf {
	const latency = 0.025 // seconds
	bytes, bucket := rate/8, float64(burst/8)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bytes,
		Limit:      uint32(float64(bytes)*latency) + uint32(bucket),
		// The kernel counts the bucket in ticks: how long it takes to fill.
		Buffer: uint32(float64(uint32(bucket*netlink.TIME_UNITS_PER_SEC/float64(bytes))) * netlink.TickInUsec()),
	}
}

// Check compares the limits with the configuration.
func (p *Plugin) Check(_ context.Context, c *plugin.Call) error {
	conf, err := parse(c.Config)
	if err != nil {
		return err
	}
	result, err := plugin.Required(c.Config)
	if err != nil {
		return err
	}
	if conf.IngressRate > 0 {
		end, err := p.peer(c, result)
		if err != nil {
			return err
		}
		if err := p.checkBucket(end, conf.IngressRate, conf.IngressBurst); err != nil {
			return err
		}
	}
	if conf.EgressRate == 0 {
		return nil
	}
	name := ifb(conf.Name, c.Container)
	l, err := p.host.Link(name)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("interface %s %w: it is gone", name, podif.ErrChanged)
	}
	return p.checkBucket(l, conf.EgressRate, conf.EgressBurst)
}

func (p *Plugin) checkBucket(l netlink.Link, rate, burst uint64) error {
	list, err := link.Whole(func() ([]netlink.Qdisc, error) { return p.host.Netlink().QdiscList(l) })
	if err != nil {
		return fmt.Errorf("list limits of %s: %w", l.Attrs().Name, err)
	}
	want := tokenBucket(rate, burst, l.Attrs().Index)
	for _, q := range list {
		if have, ok := q.(*netlink.Tbf); ok && have.Rate == want.Rate && have.Limit == want.Limit {
			return nil
		}
	}
	return fmt.Errorf("interface %s %w: it has no limit of %d bits a second", l.Attrs().Name, podif.ErrChanged, rate)
}

// Del leaves the container's ifb to the reaper; the rest goes with the container's pair.
func (p *Plugin) Del(_ context.Context, c *plugin.Call) error {
	conf := &config{}
	if err := plugin.Decode(c.Config, conf); err != nil {
		return err
	}
	return p.drop(ifb(conf.Name, c.Container))
}

func (p *Plugin) drop(name string) error {
	l, err := p.host.Link(name)
	if err != nil || l == nil || l.Type() != "ifb" {
		return err
	}
	p.reaper.Later(l.Attrs().Index)
	return nil
}

// Status holds the configuration against the plugin's rules.
func (p *Plugin) Status(_ context.Context, c *plugin.Call) error {
	_, err := parse(c.Config)
	return err
}

// GC removes ifbs that nothing is led to: the pairs of their containers are gone. Whose they were their names do not say, so what other
// networks use is left alone by what leads there.
func (p *Plugin) GC(_ context.Context, c *plugin.Call, valid []types.GCAttachment) error {
	conf := &config{}
	if err := plugin.Decode(c.Config, conf); err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, a := range valid {
		keep[ifb(conf.Name, a.ContainerID)] = true
	}
	links, err := link.Whole(p.host.Netlink().LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	used, candidates := map[int]bool{}, []netlink.Link(nil)
	for _, l := range links {
		if l.Type() == "ifb" && strings.HasPrefix(l.Attrs().Name, ifbPrefix) && !keep[l.Attrs().Name] {
			candidates = append(candidates, l)
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	for _, l := range links {
		if l.Type() == "veth" {
			if err := p.leadsTo(l, used); err != nil {
				return err
			}
		}
	}
	for _, l := range candidates {
		if !used[l.Attrs().Index] {
			p.reaper.Later(l.Attrs().Index)
		}
	}
	return nil
}

// leadsTo notes the interfaces that what comes in by l is led to. That l is gone meanwhile is no error.
func (p *Plugin) leadsTo(l netlink.Link, used map[int]bool) error {
	filters, err := link.Whole(func() ([]netlink.Filter, error) {
		return p.host.Netlink().FilterList(l, netlink.MakeHandle(0xffff, 0))
	})
	if err != nil {
		if now, lookErr := p.host.LinkAt(l.Attrs().Index); lookErr == nil && now == nil {
			return nil
		}
		return fmt.Errorf("list filters of %s: %w", l.Attrs().Name, err)
	}
	for _, f := range filters {
		if u32, ok := f.(*netlink.U32); ok {
			for _, a := range u32.Actions {
				if m, ok := a.(*netlink.MirredAction); ok {
					used[m.Ifindex] = true
				}
			}
		}
	}
	return nil
}
