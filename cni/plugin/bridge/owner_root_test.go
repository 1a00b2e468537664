package bridge

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootOwnersOfBridges: a bridge that a daemon was killed right after making is its own, and none that anybody else has named or addressed.
func TestRootOwnersOfBridges(t *testing.T) {
	const conf = `"isGateway":true,"ipam":{"type":"x"},"berthOwner":"me"`
	for _, c := range []struct {
		name, alias, address string
		want                 string // what the error says, "" for none
	}{
		{"nobody's", "", "", ""},
		{"ours", "me", "10.0.0.1/24", ""},
		{"somebody's", "", "192.0.2.1/24", "it has the address 192.0.2.1/24"},
		{"another daemon's", "them", "", "at them"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			b.ips = []string{"10.0.0.2/24"}
			attrs := netlink.NewLinkAttrs()
			attrs.Name = defaultBridge
			if err := b.host.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
				t.Fatal(err)
			}
			br := b.bridgeNow()
			if c.alias != "" {
				if err := b.host.Netlink().LinkSetAlias(br, c.alias); err != nil {
					t.Fatal(err)
				}
			}
			if c.address != "" {
				if err := linktest.AddAddress(b.host, br.Index, netip.MustParsePrefix(c.address)); err != nil {
					t.Fatal(err)
				}
			}
			call := b.call("a", conf)
			_, err := b.Add(t.Context(), call)
			if c.want == "" {
				if err != nil || b.bridgeNow().Alias != "me" {
					t.Errorf("%v, alias %q", err, b.bridgeNow().Alias)
				}
			} else if bad := (&plugin.KeyError{}); !errors.Is(err, ErrOtherOwner) || !errors.As(err, &bad) || bad.Key != "bridge" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if err := b.Del(t.Context(), call); err != nil {
				t.Error(err)
			}
			// A daemon removes its own bridges, and no others.
			for range 2 {
				if err := b.Remove(defaultBridge, "me"); err != nil {
					t.Error(err)
				}
			}
			if l, err := b.host.Link(defaultBridge); err != nil || (l == nil) != (c.want == "") {
				t.Errorf("after its removal: %v, %v", l, err)
			}
		})
	}
}

// TestRootRemoveOfWhatIsNone leaves alone what only has the name, and bridges when there is no owner to hold them against.
func TestRootRemoveOfWhatIsNone(t *testing.T) {
	b := newBed(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "plain"
	if err := b.host.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	for name, owner := range map[string]string{"lo": "", "plain": "", "none": "me"} {
		if err := b.Remove(name, owner); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"lo", "plain"} {
		if l, err := b.host.Link(name); err != nil || l == nil {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

// TestRootForceAddress has a bridge of nobody's change its address when that is asked for, and only then, family by family.
func TestRootForceAddress(t *testing.T) {
	b := newBed(t)
	b.ips = []string{"10.0.0.2/24", "fd00::2/64"}
	b.add(b.call("a", `"isGateway":true,"ipam":{"type":"x"}`))
	b.ips = []string{"10.0.0.3/25"} // the same address, in a smaller subnet
	if _, err := b.Add(t.Context(), b.call("b", `"isGateway":true,"ipam":{"type":"x"}`)); !errors.Is(err, ErrOtherSubnet) {
		t.Errorf("got %v", err)
	}
	b.add(b.call("c", `"isGateway":true,"forceAddress":true,"ipam":{"type":"x"}`))
	if got := strings.Join(b.addresses(), " "); got != "10.0.0.1/25 fd00::1/64" {
		t.Errorf("addresses %q", got)
	}
}
