package hostlocal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-runtime/berth/cni/plugin"
)

const defaultDataDir = "/var/lib/cni/networks"

// config is the plugin's configuration, read and found right.
type config struct {
	network    string
	dataDir    string
	resolvConf string
	routes     []*types.Route
	sets       []rangeSet
	keys       []string  // of the sets, as they are configured
	requested  []request // from CNI_ARGS, args.cni.ips and runtimeConfig.ips
}

// request is an address that somebody asks for, and the key by which.
type request struct {
	key  string
	addr netip.Addr
}

type rawConfig struct {
	Name string   `json:"name"`
	IPAM *rawIPAM `json:"ipam"`

	RuntimeConfig struct {
		IPRanges [][]rawRange `json:"ipRanges"`
		IPs      []string     `json:"ips"`
	} `json:"runtimeConfig"`

	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
		} `json:"cni"`
	} `json:"args"`
}

type rawIPAM struct {
	rawRange
	Routes     []json.RawMessage `json:"routes"`
	DataDir    string            `json:"dataDir"`
	ResolvConf string            `json:"resolvConf"`
	Ranges     [][]rawRange      `json:"ranges"`
}

type rawRange struct {
	RangeStart string `json:"rangeStart"`
	RangeEnd   string `json:"rangeEnd"`
	Subnet     string `json:"subnet"`
	Gateway    string `json:"gateway"`
}

// parse reads the configuration; envIP is the key IP of CNI_ARGS.
func parse(data []byte, envIP string) (*config, error) {
	raw := rawConfig{}
	if err := plugin.Decode(data, &raw); err != nil {
		return nil, err
	}
	if raw.IPAM == nil {
		return nil, plugin.Keyf("ipam", "missing")
	}
	if err := validName(raw.Name); err != nil {
		return nil, plugin.Keyf("name", "%w", err)
	}
	c := &config{network: raw.Name, dataDir: raw.IPAM.DataDir, resolvConf: raw.IPAM.ResolvConf}
	if c.dataDir == "" {
		c.dataDir = defaultDataDir
	}
	for i, r := range raw.IPAM.Routes {
		route := &types.Route{}
		if err := json.Unmarshal(r, route); err != nil {
			return nil, plugin.Keyf(fmt.Sprintf("ipam.routes[%d]", i), "%w", err)
		}
		c.routes = append(c.routes, route)
	}
	var err error
	if c.requested, err = requested(&raw, envIP); err != nil {
		return nil, err
	}
	c.sets, c.keys, err = rangeSets(&raw)
	return c, err
}

// validName keeps a network's name from leading out of dataDir. libcni holds names against a stricter rule.
func validName(name string) error {
	if name == "" || name == "." || name == ".." {
		return errors.New("not the name of a network")
	}
	for _, r := range name {
		if r == '/' || r == 0 {
			return fmt.Errorf("%q is not the name of a network", name)
		}
	}
	return nil
}

func requested(raw *rawConfig, envIP string) ([]request, error) {
	var out []request
	add := func(key, value string) error {
		addr, err := parseAddr(value)
		if err != nil {
			return plugin.Keyf(key, "%w", err)
		}
		out = append(out, request{key, addr})
		return nil
	}
	if envIP != "" {
		if err := add("IP in CNI_ARGS", envIP); err != nil {
			return nil, err
		}
	}
	for i, ip := range raw.Args.CNI.IPs {
		if err := add(fmt.Sprintf("args.cni.ips[%d]", i), ip); err != nil {
			return nil, err
		}
	}
	for i, ip := range raw.RuntimeConfig.IPs {
		if err := add(fmt.Sprintf("runtimeConfig.ips[%d]", i), ip); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// rangeSets reads the ranges in the order in which the reference plugin takes them: the runtime's, the one that stands in ipam
// itself, those of ipam.ranges.
func rangeSets(raw *rawConfig) ([]rangeSet, []string, error) {
	type keyed struct {
		key  string
		list []rawRange
	}
	var all []keyed
	for i, set := range raw.RuntimeConfig.IPRanges {
		all = append(all, keyed{fmt.Sprintf("runtimeConfig.ipRanges[%d]", i), set})
	}
	if raw.IPAM.Subnet != "" {
		all = append(all, keyed{"ipam", []rawRange{raw.IPAM.rawRange}})
	}
	for i, set := range raw.IPAM.Ranges {
		all = append(all, keyed{fmt.Sprintf("ipam.ranges[%d]", i), set})
	}
	if len(all) == 0 {
		return nil, nil, plugin.Keyf("ipam.ranges", "no range")
	}
	var sets []rangeSet
	var keys []string
	for _, k := range all {
		set, err := parseSet(k.key, k.list)
		if err != nil {
			return nil, nil, err
		}
		for i, other := range sets {
			if set.overlaps(other) {
				return nil, nil, plugin.Keyf(k.key, "overlaps %s", all[i].key)
			}
		}
		sets, keys = append(sets, set), append(keys, k.key)
	}
	return sets, keys, nil
}

func parseSet(key string, list []rawRange) (rangeSet, error) {
	if len(list) == 0 {
		return nil, plugin.Keyf(key, "empty range set")
	}
	var set rangeSet
	for i, raw := range list {
		at := key
		if key != "ipam" {
			at = fmt.Sprintf("%s[%d]", key, i)
		}
		r, err := raw.parse(at)
		if err != nil {
			return nil, err
		}
		if i > 0 && r.subnet.Addr().Is4() != set[0].subnet.Addr().Is4() {
			return nil, plugin.Keyf(at+".subnet", "not of the family of the set's first range")
		}
		if set.overlaps(rangeSet{r}) {
			return nil, plugin.Keyf(at, "%s overlaps another range of its set", r)
		}
		set = append(set, r)
	}
	return set, nil
}

func (raw rawRange) parse(key string) (addrRange, error) {
	r := addrRange{}
	subnet, err := netip.ParsePrefix(raw.Subnet)
	if err != nil {
		return r, plugin.Keyf(key+".subnet", "%w", err)
	}
	if subnet.Addr().Is4In6() {
		return r, plugin.Keyf(key+".subnet", "%s is an IPv4 address in the form of an IPv6 one", subnet)
	}
	if subnet != subnet.Masked() {
		return r, plugin.Keyf(key+".subnet", "%s has host bits set, its network is %s", subnet, subnet.Masked())
	}
	if subnet.Bits() > subnet.Addr().BitLen()-2 {
		return r, plugin.Keyf(key+".subnet", "%s is too small to allocate from", subnet)
	}
	r.subnet = subnet
	if r.gateway, err = addrOr(raw.Gateway, subnet.Addr().Next()); err != nil {
		return r, plugin.Keyf(key+".gateway", "%w", err)
	}
	if r.first, err = addrOr(raw.RangeStart, subnet.Addr().Next()); err != nil {
		return r, plugin.Keyf(key+".rangeStart", "%w", err)
	}
	if r.last, err = addrOr(raw.RangeEnd, lastOf(subnet)); err != nil {
		return r, plugin.Keyf(key+".rangeEnd", "%w", err)
	}
	if !subnet.Contains(r.first) {
		return r, plugin.Keyf(key+".rangeStart", "%s is not in %s", r.first, subnet)
	}
	if !subnet.Contains(r.last) || r.last.Less(r.first) {
		return r, plugin.Keyf(key+".rangeEnd", "%s is not in %s from %s on", r.last, subnet, r.first)
	}
	return r, nil
}

func addrOr(s string, otherwise netip.Addr) (netip.Addr, error) {
	if s == "" {
		return otherwise, nil
	}
	return parseAddr(s)
}

// parseAddr takes an address with or without the length of its subnet, as the reference plugin does for requested ones.
func parseAddr(s string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, err
	}
	if a.Zone() != "" {
		return a, fmt.Errorf("%s has a zone", a)
	}
	return a.Unmap(), nil
}
