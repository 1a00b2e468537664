package bridge

import (
	"fmt"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// setVLANs makes a port a member of VLANs: vlan untagged (0 for none), trunks with their tags. Without a vlan a trunk's untagged
// traffic is in VLAN 1.
func (s *hostSide) setVLANs(conf *config, port netlink.Link, vlan int, trunks []int) error {
	if vlan == 0 && len(trunks) == 0 {
		return nil
	}
	h := s.host.Netlink()
	if !conf.PreserveDefaultVLAN {
		member, err := link.Whole(func() ([]*nl.BridgeVlanInfo, error) {
			all, err := h.BridgeVlanList()
			return all[int32(port.Attrs().Index)], err
		})
		if err != nil {
			return fmt.Errorf("list VLANs of %s: %w", port.Attrs().Name, err)
		}
		for _, have := range member {
			if err := h.BridgeVlanDel(port, have.Vid, false, false, false, true); err != nil {
				return fmt.Errorf("take %s out of VLAN %d: %w", port.Attrs().Name, have.Vid, err)
			}
		}
	}
	untagged := vlan
	if untagged == 0 {
		untagged = 1
	}
	if err := h.BridgeVlanAdd(port, uint16(untagged), true, true, false, true); err != nil {
		return fmt.Errorf("put %s into VLAN %d: %w", port.Attrs().Name, untagged, err)
	}
	for _, id := range trunks {
		if id == untagged {
			continue
		}
		if err := h.BridgeVlanAdd(port, uint16(id), false, false, false, true); err != nil {
			return fmt.Errorf("put %s into VLAN %d: %w", port.Attrs().Name, id, err)
		}
	}
	return nil
}

// joinVLANs makes a new port a member of the configured VLANs.
func (s *hostSide) joinVLANs(conf *config, name string) error {
	if conf.VLAN == 0 && len(conf.trunks) == 0 {
		return nil
	}
	l, err := s.host.Link(name)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("interface %s: gone while it was set up", name)
	}
	return s.setVLANs(conf, l, conf.VLAN, conf.trunks)
}

func vlanName(conf *config) string { return conf.Bridge + "." + strconv.Itoa(conf.VLAN) }

// ensureVLAN returns the host's interface in the VLAN, which has the gateway's addresses: one end of a veth pair whose other end is a
// port of the bridge.
func (s *hostSide) ensureVLAN(conf *config, br *netlink.Bridge) (netlink.Link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := vlanName(conf)
	l, err := s.host.Link(name)
	if err != nil || l != nil {
		return l, err
	}
	port := link.RandomName()
	batch := s.host.Batch()
	batch.AddVeth(link.Veth{
		Name: port, MAC: link.RandomMAC(), Master: br.Index, Pod: s.host, PodName: name, PodMAC: link.RandomMAC(), MTU: conf.MTU,
	})
	if err := batch.Run(); err != nil {
		return nil, err
	}
	end, err := s.host.Link(port)
	if err != nil {
		return nil, err
	}
	if l, err = s.host.Link(name); err != nil {
		return nil, err
	}
	if end == nil || l == nil {
		return nil, fmt.Errorf("interface %s: gone while it was set up", name)
	}
	if err := s.setVLANs(conf, end, conf.VLAN, nil); err != nil {
		return nil, err
	}
	batch = s.host.Batch()
	batch.UpPort(port, link.Port{})
	if err := batch.Run(); err != nil {
		return nil, err
	}
	return l, s.host.Netlink().LinkSetUp(l)
}
