package static

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

// ErrChanged says that a container's result has another gateway than its configuration.
var ErrChanged = errors.New("is not as it was given")

// Plugin is the static plugin.
type Plugin struct{}

var _ plugin.Plugin = Plugin{}

// address is one of the configuration, with the length of its subnet.
type address struct {
	prefix  netip.Prefix
	gateway netip.Addr
}

type config struct {
	routes    []*types.Route
	dns       types.DNS
	addresses []address
}

type rawConfig struct {
	IPAM *struct {
		Routes    []json.RawMessage `json:"routes"`
		DNS       types.DNS         `json:"dns"`
		Addresses []struct {
			Address string `json:"address"`
			Gateway string `json:"gateway"`
		} `json:"addresses"`
	} `json:"ipam"`
	RuntimeConfig struct {
		IPs []string `json:"ips"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
		} `json:"cni"`
	} `json:"args"`
}

func parse(c *plugin.Call) (*config, error) {
	raw := rawConfig{}
	if err := plugin.Decode(c.Config, &raw); err != nil {
		return nil, err
	}
	if raw.IPAM == nil {
		return nil, plugin.Keyf("ipam", "missing")
	}
	conf := &config{dns: raw.IPAM.DNS}
	for i, r := range raw.IPAM.Routes {
		route := &types.Route{}
		if err := json.Unmarshal(r, route); err != nil {
			return nil, plugin.Keyf(fmt.Sprintf("ipam.routes[%d]", i), "%w", err)
		}
		conf.routes = append(conf.routes, route)
	}
	for i, a := range raw.IPAM.Addresses {
		key := fmt.Sprintf("ipam.addresses[%d]", i)
		if err := conf.add(key+".address", a.Address); err != nil {
			return nil, err
		}
		if a.Gateway != "" {
			gw, err := netip.ParseAddr(a.Gateway)
			if err != nil {
				return nil, plugin.Keyf(key+".gateway", "%w", err)
			}
			conf.addresses[i].gateway = gw.Unmap()
		}
	}
	if err := conf.readArgs(c); err != nil {
		return nil, err
	}
	for _, from := range []struct {
		key string
		ips []string
	}{{"args.cni.ips", raw.Args.CNI.IPs}, {"runtimeConfig.ips", raw.RuntimeConfig.IPs}} {
		if len(from.ips) > 0 {
			conf.addresses = nil
		}
		for i, ip := range from.ips {
			if err := conf.add(fmt.Sprintf("%s[%d]", from.key, i), ip); err != nil {
				return nil, err
			}
		}
	}
	return conf, nil
}

func (c *config) add(key, value string) error {
	p, err := netip.ParsePrefix(strings.TrimSpace(value))
	if err != nil {
		return plugin.Keyf(key, "%w: an address with the length of its subnet is wanted", err)
	}
	c.addresses = append(c.addresses, address{prefix: link.Prefix(*link.IPNet(p))})
	return nil
}

// readArgs takes the keys IP and GATEWAY of CNI_ARGS, lists with commas. A gateway is that of all addresses whose subnet it is in.
func (c *config) readArgs(call *plugin.Call) error {
	if ips := call.Arg("IP"); ips != "" {
		for ip := range strings.SplitSeq(ips, ",") {
			if err := c.add("IP in CNI_ARGS", ip); err != nil {
				return err
			}
		}
	}
	gateways := call.Arg("GATEWAY")
	if gateways == "" {
		return nil
	}
	for s := range strings.SplitSeq(gateways, ",") {
		gw, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return plugin.Keyf("GATEWAY in CNI_ARGS", "%w", err)
		}
		for i, a := range c.addresses {
			if a.prefix.Masked().Contains(gw) {
				c.addresses[i].gateway = gw
			}
		}
	}
	return nil
}

// Keys are those of the configuration.
func (Plugin) Keys() any { return rawConfig{} }

// Supports is always nil.
func (Plugin) Supports([]byte) error { return nil }

// Add gives the addresses.
func (Plugin) Add(_ context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c)
	if err != nil {
		return nil, err
	}
	result := &types100.Result{Routes: conf.routes, DNS: conf.dns}
	for _, a := range conf.addresses {
		result.IPs = append(result.IPs, &types100.IPConfig{Address: *link.IPNet(a.prefix), Gateway: a.gateway.AsSlice()})
	}
	return result, nil
}

// Check is ErrChanged when the container has one of the addresses with another gateway.
func (Plugin) Check(_ context.Context, c *plugin.Call) error {
	conf, err := parse(c)
	if err != nil {
		return err
	}
	result, err := plugin.Required(c.Config)
	if err != nil {
		return err
	}
	for _, a := range conf.addresses {
		for _, ip := range result.IPs {
			gw, _ := netip.AddrFromSlice(ip.Gateway)
			if a.gateway.IsValid() && link.Prefix(ip.Address).Addr() == a.prefix.Addr() && gw.Unmap() != a.gateway {
				return fmt.Errorf("address %s %w: gateway %s, was %s", a.prefix, ErrChanged, gw, a.gateway)
			}
		}
	}
	return nil
}

// Del has nothing to release.
func (Plugin) Del(context.Context, *plugin.Call) error { return nil }

// Status holds the configuration against the plugin's rules.
func (Plugin) Status(_ context.Context, c *plugin.Call) error {
	_, err := parse(c)
	return err
}

// GC has nothing to collect.
func (Plugin) GC(context.Context, *plugin.Call, []types.GCAttachment) error { return nil }
