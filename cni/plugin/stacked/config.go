package stacked

import (
	"net"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
)

// Kind is which of the plugins it is: the type in the configuration, and the kernel's name of the kind of link.
type Kind string

// The kinds.
const (
	Macvlan Kind = "macvlan"
	IPvlan  Kind = "ipvlan"
	VLAN    Kind = "vlan"
)

const maxVLAN = 4094

type config struct {
	Master          string    `json:"master"`
	Mode            string    `json:"mode"`
	MTU             int       `json:"mtu"`
	MAC             string    `json:"mac"`
	LinkInContainer bool      `json:"linkInContainer"`
	BcQueueLen      uint32    `json:"bcqueuelen"`
	VLANID          int       `json:"vlanId"`
	DNS             types.DNS `json:"dns"`
	IPAM            struct {
		Type string `json:"type"`
	} `json:"ipam"`
	RuntimeConfig struct {
		MAC string `json:"mac"`
	} `json:"runtimeConfig"`

	mac net.HardwareAddr
}

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE,
	"vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
}

var ipvlanModes = map[string]netlink.IPVlanMode{
	"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
}

func (k Kind) parse(c *plugin.Call) (*config, error) {
	conf := &config{}
	if err := plugin.Decode(c.Config, conf); err != nil {
		return nil, err
	}
	_, macvlan := macvlanModes[conf.Mode]
	_, ipvlan := ipvlanModes[conf.Mode]
	switch {
	case k == Macvlan && !macvlan:
		return nil, plugin.Keyf("mode", "%q is none of bridge, private, vepa, passthru", conf.Mode)
	case k == IPvlan && !ipvlan:
		return nil, plugin.Keyf("mode", "%q is none of l2, l3, l3s", conf.Mode)
	case k == VLAN && conf.Master == "":
		return nil, plugin.Keyf("master", "missing: the interface to make the VLAN on")
	case k == VLAN && (conf.VLANID < 0 || conf.VLANID > maxVLAN):
		return nil, plugin.Keyf("vlanId", "%d is not between 0 and %d", conf.VLANID, maxVLAN)
	case k == VLAN && conf.IPAM.Type == "":
		return nil, plugin.Keyf("ipam.type", "missing")
	case conf.MTU < 0:
		return nil, plugin.Keyf("mtu", "%d is negative", conf.MTU)
	}
	if k != Macvlan {
		return conf, nil
	}
	var err error // from where the reference plugin takes it
	conf.mac, err = plugin.MAC([2]string{"mac", conf.MAC}, [2]string{"MAC in CNI_ARGS", c.Arg("MAC")}, [2]string{"runtimeConfig.mac", conf.RuntimeConfig.MAC})
	return conf, err
}

// link is the interface that the configuration asks for.
func (k Kind) link(conf *config, attrs netlink.LinkAttrs) netlink.Link {
	switch k {
	case Macvlan:
		attrs.HardwareAddr = conf.mac
		return &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanModes[conf.Mode], BCQueueLen: conf.BcQueueLen}
	case IPvlan:
		return &netlink.IPVlan{LinkAttrs: attrs, Mode: ipvlanModes[conf.Mode]}
	}
	return &netlink.Vlan{LinkAttrs: attrs, VlanId: conf.VLANID}
}

// same says whether a link is as link would make it.
func (k Kind) same(conf *config, l netlink.Link) bool {
	switch l := l.(type) {
	case *netlink.Macvlan:
		return k == Macvlan && l.Mode == macvlanModes[conf.Mode]
	case *netlink.IPVlan:
		return k == IPvlan && l.Mode == ipvlanModes[conf.Mode]
	case *netlink.Vlan:
		return k == VLAN && l.VlanId == conf.VLANID
	}
	return false
}
