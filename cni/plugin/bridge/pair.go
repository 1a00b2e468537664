package bridge

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// pair is a new veth pair.
type pair struct {
	host, pod string // names
	hostMAC   net.HardwareAddr
	podMAC    net.HardwareAddr
}

// addPair joins the container to the bridge. The end in the container is down, the other up.
func (p *Plugin) addPair(conf *config, c *plugin.Call, br *netlink.Bridge, mac net.HardwareAddr) (*pair, error) {
	for try := 0; ; try++ {
		v := &pair{host: link.RandomName(), pod: c.IfName, hostMAC: link.RandomMAC(), podMAC: mac}
		batch := p.host.Batch() // when the pair is not made, nothing is there to be brought up
		batch.AddVeth(link.Veth{
			Name: v.host, MAC: v.hostMAC, Master: br.Index, Pod: c.Pod, PodName: v.pod, PodMAC: v.podMAC, MTU: conf.MTU,
		})
		batch.UpPort(v.host, link.Port{Hairpin: conf.HairpinMode, Isolated: conf.PortIsolation})
		err := batch.Run()
		switch {
		case err == nil:
			return v, p.joinVLANs(conf, v.host)
		case errors.Is(err, syscall.EXFULL):
			return nil, plugin.Keyf("bridge", "%s %w: %w", conf.Bridge, ErrFull, err)
		case !errors.Is(err, syscall.EEXIST) || try == 10:
			return nil, err
		}
		if err := podif.Clear(c.Pod, c.IfName, p.reaper); err != nil {
			return nil, err
		}
	}
}

func (p *Plugin) joinVLANs(conf *config, name string) error {
	if conf.VLAN == 0 && len(conf.trunks) == 0 {
		return nil
	}
	l, err := p.host.Link(name)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("interface %s: gone while it was set up", name)
	}
	return p.setVLANs(conf, l, conf.VLAN, conf.trunks)
}
