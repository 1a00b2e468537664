package bridge

import (
	"bytes"
	"errors"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// pair is a new veth pair.
type pair struct {
	bridge    *netlink.Bridge // that the host's end is a port of
	host, pod string          // names
	hostMAC   net.HardwareAddr
	podMAC    net.HardwareAddr
	podIndex  int
}

// portMAC is the MAC address of the bridge's ports. Nothing is sent from it, so they do with the bridge's own: each further one is an entry of
// the bridge's table, which the kernel goes through for every port that joins (br_fdb_unsync_static). A bridge without ports may have none.
func portMAC(br *netlink.Bridge) net.HardwareAddr {
	if mac := br.HardwareAddr; len(mac) == 6 && mac[0]&1 == 0 && !bytes.Equal(mac, make(net.HardwareAddr, 6)) {
		return mac
	}
	return link.RandomMAC()
}

// addPair joins the container to the bridge. Both ends are down.
func (p *Plugin) addPair(conf *config, c *plugin.Call, br *netlink.Bridge, mac net.HardwareAddr) (*pair, error) {
	for try := 0; ; try++ {
		v := &pair{bridge: br, host: link.RandomName(), pod: c.IfName, hostMAC: portMAC(br), podMAC: mac}
		group := uint32(0)
		if conf.Owner != "" {
			group = ownPorts
		}
		batch := p.host.Batch() // when the pair is not made, there is nothing to be found
		batch.AddVeth(link.Veth{
			Name: v.host, MAC: v.hostMAC, Master: br.Index, Group: group, Pod: c.Pod, PodName: v.pod, PodMAC: v.podMAC, MTU: conf.MTU,
		})
		found := batch.Look(v.host)
		err := batch.Run()
		v.podIndex = found.Peer
		switch {
		case err == nil:
			return v, p.side.joinVLANs(conf, v.host)
		case errors.Is(err, syscall.EXFULL):
			return nil, plugin.Keyf("bridge", "%s %w: %w", conf.Bridge, ErrFull, err)
		case errors.Is(err, syscall.EINVAL) && p.side.forget(conf): // the bridge of that index is gone
			if br, err = p.side.ensure(conf); err != nil {
				return nil, err
			}
			continue
		case !errors.Is(err, syscall.EEXIST) || try == 10:
			return nil, err
		}
		if err := podif.Clear(c.Pod, c.IfName, p.reaper); err != nil {
			return nil, err
		}
	}
}
