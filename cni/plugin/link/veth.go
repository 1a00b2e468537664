package link

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h, which x/sys/unix does not have.
const addrGenModeNone = 1

// Veth is a pair to be made: one end stays in the space, the other is born in the pod's.
type Veth struct {
	Name   string           // of the end that stays
	MAC    net.HardwareAddr // of the end that stays
	Master int              // index of the bridge that the end that stays joins, 0 for none
	Group  uint32           // of the end that stays (ip-link(8)), 0 for none

	Pod     *Space
	PodName string
	PodMAC  net.HardwareAddr

	MTU int // of both, 0 for the kernel's default
}

// RandomName returns a name for the host's end of a pair, in the reference plugins' form.
func RandomName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	return "veth" + hex.EncodeToString(b[:])
}

// RandomMAC returns a locally administered unicast address. One that was set on purpose is left alone by systemd-udevd
// (MACAddressPolicy=persistent looks at addr_assign_type).
func RandomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac)
	mac[0] = mac[0]&^1 | 2
	return mac
}

// MACFor returns the address that a pod with an IP address always gets. Whoever remembers the MAC address of a pod that had the IP
// address before is right, so nobody has to be told; what tells (arp_notify, ndisc_notify) goes to every pod of the bridge,
// which is dear with many.
func MACFor(ip netip.Addr) net.HardwareAddr {
	if ip.Is4() {
		b := ip.As4()
		return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]} // the form that kubenet and older bridge plugins gave
	}
	sum := sha256.Sum256(ip.AsSlice())
	return net.HardwareAddr{0x06, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// AddVeth makes the pair, both ends down. It is EEXIST when either name is taken.
func (b *Batch) AddVeth(v Veth) {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.PodName))
	peer.AddRtAttr(unix.IFLA_ADDRESS, v.PodMAC)
	// By default both ends get a queue for each processor of the machine, each of which takes the kernel its time to show in /sys; a device
	// that passes packets on by itself has no use for them.
	one := nl.Uint32Attr(1)
	peer.AddRtAttr(unix.IFLA_NUM_TX_QUEUES, one)
	peer.AddRtAttr(unix.IFLA_NUM_RX_QUEUES, one)
	if v.MTU > 0 {
		peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.MTU)))
	}
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(v.Pod.FD())))
	data := []nl.NetlinkRequestData{
		nl.NewIfInfomsg(unix.AF_UNSPEC),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.Name)), nl.NewRtAttr(unix.IFLA_ADDRESS, v.MAC),
		nl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, one), nl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, one),
	}
	if v.MTU > 0 {
		data = append(data, nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.MTU))))
	}
	if v.Master > 0 {
		data = append(data, nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(v.Master))))
	}
	if v.Group != 0 {
		data = append(data, nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(v.Group)))
	}
	b.add(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add veth "+v.Name, append(data, info)...)
}

// Port is what a bridge is to do with one of its ports.
type Port struct {
	Hairpin  bool // packets may go back to where they came from
	Isolated bool // no packets from and to other isolated ports
}

// UpPort brings the host's end of a pair up as a port of a bridge. A port needs no address of its own, so the kernel is kept from
// making an IPv6 one, which would cost duplicate address detection and multicast reports for each pod.
func (b *Batch) UpPort(name string, port Port) {
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(addrGenModeNone))
	named := nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name))
	// Fails on a host without IPv6, where nothing is to be kept quiet.
	b.add(unix.RTM_SETLINK, 0, "keep "+name+" quiet", nl.NewIfInfomsg(unix.AF_UNSPEC), named, spec).optional = true

	if port.Hairpin || port.Isolated {
		// NEWLINK of an interface that is there changes it, and unlike SETLINK takes what belongs to the bridge's port. On an interface that
		// is up it would tell everybody of a change of its state, which makes the kernel look through all routes.
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
		slave := info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil)
		slave.AddRtAttr(nl.IFLA_BRPORT_MODE, nl.Uint8Attr(flag(port.Hairpin)))
		slave.AddRtAttr(nl.IFLA_BRPORT_ISOLATED, nl.Uint8Attr(flag(port.Isolated)))
		b.add(unix.RTM_NEWLINK, 0, "set up port "+name, nl.NewIfInfomsg(unix.AF_UNSPEC), named, info)
	}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	b.add(unix.RTM_NEWLINK, 0, "bring up "+name, msg, named)
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

func (s *Space) request(kind, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = s.sockets
	return req
}

// Link returns the interface called name, nil when there is none.
func (s *Space) Link(name string) (netlink.Link, error) {
	l, err := s.handle.LinkByName(name)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return l, nil
}

// Index returns the index of the interface called name. It is an error when there is none.
func (s *Space) Index(name string) (int, error) {
	req := s.request(unix.RTM_GETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil || len(answers) == 0 {
		return 0, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return int(nl.DeserializeIfInfomsg(answers[0]).Index), nil
}

// LinkAt returns the interface with an index, nil when there is none.
func (s *Space) LinkAt(index int) (netlink.Link, error) {
	l, err := s.handle.LinkByIndex(index)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up interface %d: %w", index, err)
	}
	return l, nil
}

// DeleteAt removes the interface with an index, and its peer. It waits for the kernel. One that is gone is no error.
func (s *Space) DeleteAt(index int) error {
	err := s.handle.LinkDel(at(index))
	if err != nil && !missing(err) {
		return fmt.Errorf("delete interface %d: %w", index, err)
	}
	return nil
}

func missing(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, syscall.ENODEV)
}
