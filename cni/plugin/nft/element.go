package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Protocol is an IP protocol number (IANA): TCP, UDP or SCTP.
type Protocol uint8

// The protocols that a port can be published of.
const (
	TCP  Protocol = unix.IPPROTO_TCP
	UDP  Protocol = unix.IPPROTO_UDP
	SCTP Protocol = unix.IPPROTO_SCTP
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}

// Port is one port of the host that leads to a pod.
type Port struct {
	Protocol Protocol
	HostIP   netip.Addr // the address of the host, unset or unspecified for all
	Host     uint16
	To       netip.AddrPort // decides the family
	Bits     int            // the length of To's subnet
}

// wildcard says whether the port is published on all addresses of the host.
func (p Port) wildcard() bool { return !p.HostIP.IsValid() || p.HostIP.IsUnspecified() }

// The sets of a table, by what they hold; "4" or "6" is added for the family.
const (
	setPorts     = "ports"
	setHostPorts = "hostports"
	setSNAT      = "snat"
	setMasq      = "masq"
)

// element is what the kernel and the mirror hold: bytes as nf_tables has them, each part padded to a 4 byte register.
type element struct {
	set   string
	key   string
	val   string
	owner string
	bits  int // of snat and masq elements: the length of the address' subnet
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

func portKey(proto Protocol, port uint16) string {
	b := []byte{byte(proto), 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[4:], port)
	return string(b)
}

func (p Port) element(owner string) element {
	val := append(p.To.Addr().AsSlice(), 0, 0, 0, 0)
	binary.BigEndian.PutUint16(val[len(val)-4:], p.To.Port())
	e := element{set: setPorts, key: portKey(p.Protocol, p.Host), val: string(val), owner: owner}
	if !p.wildcard() {
		e.set, e.key = setHostPorts, string(p.HostIP.AsSlice())+e.key
	}
	e.set += family(p.To.Addr())
	return e
}

// snatElements are those that let a pod reach itself through the host, and the host through its loopback address. There is no
// such thing for ::1, which the kernel never routes.
func snatElements(pod netip.Prefix, owner string) []element {
	set, ip := setSNAT+family(pod.Addr()), string(pod.Addr().AsSlice())
	out := []element{{set: set, key: ip + ip, owner: owner, bits: pod.Bits()}}
	if pod.Addr().Is4() {
		out = append(out, element{set: set, key: string([]byte{127, 0, 0, 1}) + ip, owner: owner, bits: pod.Bits()})
	}
	return out
}

func masqElement(p netip.Prefix, owner string) element {
	return element{set: setMasq + family(p.Addr()), key: string(p.Addr().AsSlice()), owner: owner, bits: p.Bits()}
}

// subnet is the one that a snat or masq element's last address belongs to, invalid for others.
func (e element) subnet() netip.Prefix {
	size := 4
	if strings.HasSuffix(e.set, "6") {
		size = 16
	}
	if e.bits == 0 || len(e.key) < size {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice([]byte(e.key[len(e.key)-size:]))
	return netip.PrefixFrom(addr, e.bits).Masked()
}

// masquerades says whether the element hides an address, in place of publishing a port.
func (e element) masquerades() bool { return strings.HasPrefix(e.set, setMasq) }

// single is the family and the port of an element that publishes it on one address of the host, "" for others.
func (e element) single() string {
	if !strings.HasPrefix(e.set, setHostPorts) {
		return ""
	}
	return e.set[len(e.set)-1:] + e.key[len(e.key)-len(portKey(0, 0)):]
}

// comment is the element's owner, and behind a space the length of its subnet when it has one.
func (e element) comment() string {
	if e.bits == 0 {
		return e.owner
	}
	return e.owner + " " + strconv.Itoa(e.bits)
}

func (e element) kernel() nftables.SetElement {
	out := nftables.SetElement{Key: []byte(e.key), Comment: e.comment()}
	if e.val != "" {
		out.Val = []byte(e.val)
	}
	return out
}

// fromKernel is the reverse of kernel.
func fromKernel(set string, k nftables.SetElement) element {
	e := element{set: set, key: string(k.Key), val: string(k.Val), owner: k.Comment}
	if owner, bits, ok := strings.Cut(k.Comment, " "); ok {
		if n, err := strconv.Atoi(bits); err == nil && n >= 0 && n <= 8*len(k.Key) {
			e.owner, e.bits = owner, n
		}
	}
	return e
}
