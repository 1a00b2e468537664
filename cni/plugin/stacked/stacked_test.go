package stacked

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
)

func TestMistakesNameTheKey(t *testing.T) {
	for _, c := range []struct {
		kind      Kind
		conf, key string
	}{
		{Macvlan, `{"mode":"l2"}`, "mode"},
		{Macvlan, `{"mac":"x"}`, "mac"},
		{Macvlan, `{"mac":"02:00:00:00:00:01","runtimeConfig":{"mac":"x"}}`, "runtimeConfig.mac"},
		{Macvlan, `{"mtu":-1}`, "mtu"},
		{IPvlan, `{"mode":"bridge"}`, "mode"},
		{VLAN, `{"ipam":{"type":"x"}}`, "master"},
		{VLAN, `{"master":"eth0","vlanId":4095,"ipam":{"type":"x"}}`, "vlanId"},
		{VLAN, `{"master":"eth0","vlanId":7}`, "ipam.type"},
		{VLAN, `{"master":7}`, "master"},
	} {
		_, err := c.kind.parse(&plugin.Call{Config: []byte(c.conf)})
		bad := &plugin.KeyError{}
		if !errors.As(err, &bad) || bad.Key != c.key {
			t.Errorf("%s %s: %v", c.kind, c.conf, err)
		}
	}
}

func TestMACIsTheLastThatIsSet(t *testing.T) {
	for args, want := range map[string]string{
		"":                      "02:00:00:00:00:01",
		"MAC=02:00:00:00:00:02": "02:00:00:00:00:02",
	} {
		conf, err := Macvlan.parse(&plugin.Call{Config: []byte(`{"mac":"02:00:00:00:00:01"}`), Args: args})
		if err != nil || conf.mac.String() != want {
			t.Errorf("%q: %v, %v", args, conf, err)
		}
	}
}

// TestLinkIsTheSame makes what link asks for look like what the kernel would answer.
func TestLinkIsTheSame(t *testing.T) {
	for _, c := range []struct {
		kind  Kind
		conf  config
		other netlink.Link
	}{
		{Macvlan, config{Mode: "vepa"}, &netlink.Macvlan{Mode: netlink.MACVLAN_MODE_BRIDGE}},
		{IPvlan, config{Mode: "l3s"}, &netlink.IPVlan{Mode: netlink.IPVLAN_MODE_L2}},
		{VLAN, config{VLANID: 7}, &netlink.Vlan{VlanId: 8}},
	} {
		l := c.kind.link(&c.conf, netlink.LinkAttrs{Name: "eth0"})
		if l.Type() != string(c.kind) || !c.kind.same(&c.conf, l) {
			t.Errorf("%s: %+v", c.kind, l)
		}
		if c.kind.same(&c.conf, c.other) || c.kind.same(&c.conf, &netlink.Dummy{}) {
			t.Errorf("%s: %+v is taken for the same", c.kind, c.other)
		}
	}
}
