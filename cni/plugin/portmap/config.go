package portmap

import (
	"fmt"
	"net/netip"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/nftables/expr"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/nft"
)

type config struct {
	Name                 string   `json:"name"`
	Backend              *string  `json:"backend"`
	SNAT                 *bool    `json:"snat"`
	ConditionsV4         []string `json:"conditionsV4"`
	ConditionsV6         []string `json:"conditionsV6"`
	MarkMasqBit          *int     `json:"markMasqBit"`
	ExternalSetMarkChain *string  `json:"externalSetMarkChain"`
	MasqAll              bool     `json:"masqAll"`
	RuntimeConfig        struct {
		Ports []mapping `json:"portMappings"`
	} `json:"runtimeConfig"`
}

// mapping is the capability portMappings, as CONVENTIONS.md of CNI has it.
type mapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

func parse(data []byte) (*config, error) {
	c := &config{}
	if err := plugin.Decode(data, c); err != nil {
		return nil, err
	}
	if c.Backend != nil && *c.Backend != "nftables" && *c.Backend != "iptables" {
		return nil, plugin.Keyf("backend", "%q is none of iptables, nftables", *c.Backend)
	}
	if c.MarkMasqBit != nil && c.ExternalSetMarkChain != nil {
		return nil, plugin.Keyf("externalSetMarkChain", "cannot be given with markMasqBit")
	}
	if c.MarkMasqBit != nil && (*c.MarkMasqBit < 0 || *c.MarkMasqBit > 31) {
		return nil, plugin.Keyf("markMasqBit", "%d is not between 0 and 31", *c.MarkMasqBit)
	}
	for i, m := range c.RuntimeConfig.Ports {
		if err := m.validate(); err != nil {
			return nil, fmt.Errorf("runtimeConfig.portMappings[%d].%w", i, err)
		}
	}
	return c, nil
}

func (m mapping) validate() error {
	if m.HostPort < 1 || m.HostPort > 65535 {
		return plugin.Keyf("hostPort", "%d is not a port", m.HostPort)
	}
	if m.ContainerPort < 1 || m.ContainerPort > 65535 {
		return plugin.Keyf("containerPort", "%d is not a port", m.ContainerPort)
	}
	if _, err := m.protocol(); err != nil {
		return err
	}
	_, err := m.hostIP()
	return err
}

func (m mapping) protocol() (nft.Protocol, error) {
	switch strings.ToLower(m.Protocol) {
	case "tcp", "":
		return nft.TCP, nil
	case "udp":
		return nft.UDP, nil
	case "sctp":
		return nft.SCTP, nil
	}
	return 0, plugin.Keyf("protocol", "%q is none of tcp, udp, sctp", m.Protocol)
}

func (m mapping) hostIP() (netip.Addr, error) {
	if m.HostIP == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(m.HostIP)
	if err != nil {
		return addr, plugin.Keyf("hostIP", "%w", err)
	}
	return addr.Unmap().WithZone(""), nil
}

func (c *config) snat() bool { return c.SNAT == nil || *c.SNAT }

// ports are the mappings that lead to one of the container's addresses. A host address of the other family is no mistake: the
// container has one of each.
func (c *config) ports(to netip.Prefix) []nft.Port {
	var out []nft.Port
	for _, m := range c.RuntimeConfig.Ports {
		proto, _ := m.protocol() // validated
		ip, _ := m.hostIP()
		if ip.IsValid() && ip.Is4() != to.Addr().Is4() {
			continue
		}
		out = append(out, nft.Port{
			Protocol: proto, HostIP: ip, Host: uint16(m.HostPort),
			To: netip.AddrPortFrom(to.Addr(), uint16(m.ContainerPort)), Bits: to.Bits(),
		})
	}
	return out
}

func (c *config) options() (nft.Options, error) {
	opts := nft.Options{SNAT: c.snat()}
	var err error
	if opts.Conditions4, err = conditions(c.ConditionsV4, true); err != nil {
		return opts, plugin.Keyf("conditionsV4", "%w", err)
	}
	if opts.Conditions6, err = conditions(c.ConditionsV6, false); err != nil {
		return opts, plugin.Keyf("conditionsV6", "%w", err)
	}
	return opts, nil
}

// targets are the first addresses of each family that the container has on the interface, as the plugins before us tell.
func targets(c *plugin.Call, previous *types100.Result) ([]netip.Prefix, error) {
	if previous == nil {
		return nil, plugin.Keyf("prevResult", "missing: the plugin must be chained behind another")
	}
	var v4, v6 []netip.Prefix
	for _, ip := range previous.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(previous.Interfaces) {
			if on := previous.Interfaces[*i]; on.Name != c.IfName || on.Sandbox == "" {
				continue
			}
		}
		if p := link.Prefix(ip.Address); p.IsValid() && p.Addr().Is4() {
			v4 = append(v4, p)
		} else if p.IsValid() {
			v6 = append(v6, p)
		}
	}
	return append(v4[:min(1, len(v4))], v6[:min(1, len(v6))]...), nil
}

// conditions turns the matches that clusters use into nf_tables expressions: addresses and the incoming interface, in the words of
// iptables ("!", "-d", "10.0.0.0/8") or of nft ("ip", "daddr", "!=", "10.0.0.0/8").
func conditions(words []string, v4 bool) ([]expr.Any, error) {
	words = strings.Fields(strings.Join(words, " "))
	var out []expr.Any
	for len(words) > 0 {
		m, rest, err := nextCondition(words)
		if err != nil {
			return nil, err
		}
		exprs, err := m.expressions(v4)
		if err != nil {
			return nil, err
		}
		out, words = append(out, exprs...), rest
	}
	return out, nil
}

// match is one condition.
type match struct {
	field string // saddr, daddr, iifname
	not   bool
	value string
}

func nextCondition(words []string) (match, []string, error) {
	m, all := match{}, words
	if words[0] == "!" { // iptables
		m.not, words = true, words[1:]
	}
	fields := map[string]string{
		"-d": "daddr", "--dst": "daddr", "--destination": "daddr", "-s": "saddr", "--src": "saddr", "--source": "saddr",
		"-i": "iifname", "--in-interface": "iifname", "iifname": "iifname", "daddr": "daddr", "saddr": "saddr",
	}
	if len(words) > 1 && (words[0] == "ip" || words[0] == "ip6") { // nft
		words = words[1:]
	}
	if len(words) > 0 {
		m.field, words = fields[words[0]], words[1:]
	}
	if len(words) > 0 && (words[0] == "!=" || words[0] == "==") {
		m.not, words = m.not != (words[0] == "!="), words[1:]
	}
	if m.field == "" || len(words) == 0 {
		return m, nil, fmt.Errorf("%q is not a condition that can be run in process", strings.Join(all, " "))
	}
	m.value = strings.Trim(words[0], `"`)
	return m, words[1:], nil
}

func (m match) expressions(v4 bool) ([]expr.Any, error) {
	if m.field == "iifname" {
		return nft.InInterface(m.value, m.not), nil
	}
	p, err := netip.ParsePrefix(m.value)
	if err != nil {
		addr, err := netip.ParseAddr(m.value)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a subnet", m.value)
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4() != v4 {
		return nil, fmt.Errorf("%s is of the other family", p)
	}
	return nft.Address(m.field == "saddr", p, m.not), nil
}
