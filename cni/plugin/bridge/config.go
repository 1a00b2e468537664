package bridge

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-runtime/berth/cni/plugin"
)

const (
	defaultBridge = "cni0"
	maxVLAN       = 4094
)

type config struct {
	Name                      string    `json:"name"`
	Bridge                    string    `json:"bridge"`
	IsGateway                 bool      `json:"isGateway"`
	IsDefaultGateway          bool      `json:"isDefaultGateway"`
	ForceAddress              bool      `json:"forceAddress"`
	IPMasq                    bool      `json:"ipMasq"`
	IPMasqBackend             *string   `json:"ipMasqBackend"`
	MTU                       int       `json:"mtu"`
	HairpinMode               bool      `json:"hairpinMode"`
	PromiscMode               bool      `json:"promiscMode"`
	VLAN                      int       `json:"vlan"`
	VLANTrunk                 []trunk   `json:"vlanTrunk"`
	PreserveDefaultVLAN       bool      `json:"preserveDefaultVlan"`
	MACSpoofCheck             bool      `json:"macspoofchk"`
	EnableDAD                 bool      `json:"enabledad"`
	DisableContainerInterface bool      `json:"disableContainerInterface"`
	PortIsolation             bool      `json:"portIsolation"`
	DNS                       types.DNS `json:"dns"`
	Owner                     string    `json:"berthOwner"`
	Direct                    []string  `json:"berthDirect"`

	IPAM struct {
		Type string `json:"type"`
	} `json:"ipam"`
	Args struct {
		CNI struct {
			MAC string `json:"mac"`
		} `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		MAC string `json:"mac"`
	} `json:"runtimeConfig"`

	mac    net.HardwareAddr // asked for by CNI_ARGS, args or the capability; nil for any
	trunks []int            // VLANs that the port passes with their tags
	direct []netip.Prefix   // where nothing is masqueraded
}

type trunk struct {
	MinID *int `json:"minID"`
	MaxID *int `json:"maxID"`
	ID    *int `json:"id"`
}

func parse(c *plugin.Call) (*config, error) {
	conf := &config{Bridge: defaultBridge}
	if err := plugin.Decode(c.Config, conf); err != nil {
		return nil, err
	}
	if conf.IsDefaultGateway {
		conf.IsGateway = true
	}
	for i, s := range conf.Direct {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, plugin.Keyf(fmt.Sprintf("berthDirect[%d]", i), "%w", err)
		}
		conf.direct = append(conf.direct, p.Masked())
	}
	if err := conf.validate(); err != nil {
		return nil, err
	}
	var err error // from where the reference plugin takes it
	conf.mac, err = plugin.MAC([2]string{"MAC in CNI_ARGS", c.Arg("MAC")}, [2]string{"args.cni.mac", conf.Args.CNI.MAC},
		[2]string{"runtimeConfig.mac", conf.RuntimeConfig.MAC})
	if err != nil {
		return nil, err
	}
	return conf, conf.readTrunks()
}

func (c *config) validate() error {
	switch {
	case c.Bridge == "" || len(c.Bridge) > 15:
		return plugin.Keyf("bridge", "%q is not the name of an interface", c.Bridge)
	case c.VLAN < 0 || c.VLAN > maxVLAN:
		return plugin.Keyf("vlan", "%d is not between 0 and %d", c.VLAN, maxVLAN)
	case c.MTU < 0 || c.MTU > 65535:
		return plugin.Keyf("mtu", "%d is not between 0 and 65535", c.MTU)
	case c.HairpinMode && c.PromiscMode:
		return plugin.Keyf("promiscMode", "cannot be set together with hairpinMode")
	case c.IPAM.Type != "" && c.DisableContainerInterface:
		return plugin.Keyf("disableContainerInterface", "cannot be set together with ipam")
	case c.IPMasqBackend != nil && *c.IPMasqBackend != "nftables" && *c.IPMasqBackend != "iptables":
		return plugin.Keyf("ipMasqBackend", "%q is none of iptables, nftables", *c.IPMasqBackend)
	}
	return nil
}

func (c *config) readTrunks() error {
	seen := map[int]bool{}
	for _, t := range c.VLANTrunk {
		if (t.MinID == nil) != (t.MaxID == nil) {
			return plugin.Keyf("vlanTrunk", "minID and maxID come together")
		}
		if t.MinID != nil {
			if *t.MinID < 1 || *t.MaxID > maxVLAN || *t.MaxID < *t.MinID {
				return plugin.Keyf("vlanTrunk", "%d to %d is no range between 1 and %d", *t.MinID, *t.MaxID, maxVLAN)
			}
			for id := *t.MinID; id <= *t.MaxID; id++ {
				seen[id] = true
			}
		}
		if t.ID != nil {
			if *t.ID < 1 || *t.ID > maxVLAN {
				return plugin.Keyf("vlanTrunk", "id %d is not between 1 and %d", *t.ID, maxVLAN)
			}
			seen[*t.ID] = true
		}
	}
	for id := range seen {
		c.trunks = append(c.trunks, id)
	}
	slices.Sort(c.trunks)
	return nil
}
