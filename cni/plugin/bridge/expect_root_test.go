package bridge

import (
	"context"
	"maps"
	"net"
	"os"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootUpForItsAddresses: an IPAM plugin that looks for the interface finds it up, and by then it believes no other pod's router
// advertisements, and detects duplicates as far as it is to.
func TestRootUpForItsAddresses(t *testing.T) {
	for conf, want := range map[string]map[string]string{
		``:                  {"accept_ra": "0", "accept_dad": "0", "keep_addr_on_down": "1"},
		`,"enableDad":true`: {"accept_ra": "1", "accept_dad": "1", "keep_addr_on_down": "1"},
	} {
		b := newBed(t)
		b.ips = []string{"10.0.0.2/24", "fd00::2/64"}
		c := b.call("a", `"ipam":{"type":"far"}`+conf)
		c.Process = func(name string) bool { return name == "far" }
		give, asked := c.IPAM, false
		c.IPAM = func(ctx context.Context, command, name string) (*types100.Result, error) {
			asked = true
			if l, err := c.Pod.Link("eth0"); err != nil || l == nil || l.Attrs().Flags&net.FlagUp == 0 {
				t.Errorf("%s: the IPAM plugin finds %v, %v", conf, l, err)
			}
			got := maps.Clone(want)
			linktest.In(t, c.Pod, func() error {
				for name := range got {
					value, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/" + name)
					if err != nil {
						return err
					}
					got[name] = strings.TrimSpace(string(value))
				}
				return nil
			})
			if !maps.Equal(got, want) {
				t.Errorf("%s: when it came up there was %v, want %v", conf, got, want)
			}
			return give(ctx, command, name)
		}
		b.add(c)
		if !asked {
			t.Errorf("%s: no IPAM plugin was asked", conf)
		}
	}
}
