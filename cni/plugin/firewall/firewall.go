package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/nft"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

const (
	defaultAdmin = "CNI-ADMIN"
	// maxChain is the length of a chain's name in iptables (XT_EXTENSION_MAXNAMELEN, less one).
	maxChain = 28

	open, sameBridge, isolated = "open", "same-bridge", "isolated"

	// firewalldPID is there while firewalld runs.
	firewalldPID = "/run/firewalld.pid"
	// legacyTables lists the tables of the older iptables that a namespace has.
	legacyTables = "/proc/thread-self/net/ip_tables_names"
)

// Plugin is the firewall plugin.
type Plugin struct {
	host      *link.Space
	filter    *nft.Filter
	firewalld string
}

var _ plugin.Plugin = (*Plugin)(nil)

// New lets containers through host's filter. Both stay the caller's.
func New(host *link.Space, filter *nft.Filter) *Plugin {
	return &Plugin{host: host, filter: filter, firewalld: firewalldPID}
}

type config struct {
	Backend       string `json:"backend"`
	Admin         string `json:"iptablesAdminChainName"`
	FirewalldZone string `json:"firewalldZone"`
	Ingress       string `json:"ingressPolicy"`
}

func parse(data []byte) (*config, error) {
	c := &config{}
	if err := plugin.Decode(data, c); err != nil {
		return nil, err
	}
	if c.Admin == "" {
		c.Admin = defaultAdmin
	}
	switch {
	case !slices.Contains([]string{"", "iptables", "nftables", "firewalld"}, c.Backend):
		return nil, plugin.Keyf("backend", "%q is none of iptables, nftables, firewalld", c.Backend)
	case !slices.Contains([]string{"", open, sameBridge, isolated}, c.Ingress):
		return nil, plugin.Keyf("ingressPolicy", "%q is none of open, same-bridge, isolated", c.Ingress)
	case len(c.Admin) > maxChain || strings.ContainsAny(c.Admin, " \t\n!") || strings.HasPrefix(c.Admin, "-"):
		return nil, plugin.Keyf("iptablesAdminChainName", "%q is not the name of a chain", c.Admin)
	case c.Admin == "FORWARD" || c.Admin == "CNI-FORWARD":
		return nil, plugin.Keyf("iptablesAdminChainName", "%s is a chain of its own", c.Admin)
	}
	return c, nil
}

// Keys are those of the configuration.
func (*Plugin) Keys() any { return config{} }

// Supports is nil where the host's filter is nf_tables'.
func (p *Plugin) Supports(data []byte) error {
	conf, err := parse(data)
	if err != nil {
		return nil // Add says what is wrong with it
	}
	if conf.Backend == "firewalld" {
		return plugin.Keyf("backend", "firewalld is the reference plugin's")
	}
	if _, err := os.Stat(p.firewalld); conf.Backend == "" && err == nil {
		return plugin.Keyf("backend", "missing, and firewalld runs, which is the reference plugin's")
	}
	legacy := false
	_ = p.host.Do(func() error { // a kernel without them has no such file
		tables, err := os.ReadFile(legacyTables)
		legacy = slices.Contains(strings.Fields(string(tables)), "filter")
		return err
	})
	if legacy && conf.Backend != "nftables" {
		return plugin.Keyf("backend", "the host filters by the older iptables, which is the reference plugin's")
	}
	return nil
}

// Add lets the container's addresses through.
func (p *Plugin) Add(_ context.Context, c *plugin.Call) (*types100.Result, error) {
	conf, err := parse(c.Config)
	if err != nil {
		return nil, err
	}
	result, err := plugin.Required(c.Config)
	if err != nil {
		return nil, err
	}
	addrs, err := addresses(result)
	if err != nil {
		return nil, err
	}
	if err := p.filter.Admit(c.Owner(), conf.Admin, addrs); err != nil {
		return nil, err
	}
	if conf.Ingress == "" || conf.Ingress == open {
		return result, nil
	}
	if len(result.Interfaces) == 0 || result.Interfaces[0].Name == "" || result.Interfaces[0].Sandbox != "" {
		return nil, plugin.Keyf("ingressPolicy", "%s needs a bridge, and the plugin before made none", conf.Ingress)
	}
	return result, p.filter.Isolate(result.Interfaces[0].Name, conf.Ingress == isolated)
}

func addresses(result *types100.Result) ([]netip.Addr, error) {
	prefixes, err := podif.Addresses(result)
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.Addr()
	}
	return out, nil
}

// Check is podif.ErrChanged when an address is no longer let through.
func (p *Plugin) Check(_ context.Context, c *plugin.Call) error {
	if _, err := parse(c.Config); err != nil {
		return err
	}
	result, err := plugin.Required(c.Config)
	if err != nil {
		return err
	}
	addrs, err := addresses(result)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		ok, err := p.filter.Admitted(c.Owner(), a)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("address %s %w: the host's filter does not let it through", a, podif.ErrChanged)
		}
	}
	return nil
}

// Del takes back what was made for the container, by whichever plugin. Without a result of an Add it goes by the container's name alone.
func (p *Plugin) Del(_ context.Context, c *plugin.Call) error {
	result, err := plugin.Previous(c.Config)
	if err != nil || result == nil {
		return errors.Join(err, p.filter.Release(c.Owner(), nil))
	}
	addrs, err := addresses(result)
	return errors.Join(err, p.filter.Release(c.Owner(), addrs))
}

// Status holds the configuration against the plugin's rules.
func (p *Plugin) Status(_ context.Context, c *plugin.Call) error {
	_, err := parse(c.Config)
	return err
}

// GC has nothing to collect of a single network: addresses are let through whatever network they are of, and their owners are known to
// who collects in all (nft.Filter.Keep).
func (p *Plugin) GC(context.Context, *plugin.Call, []types.GCAttachment) error { return nil }
