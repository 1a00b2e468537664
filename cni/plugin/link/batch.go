package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Batch is a list of changes that go to the kernel in one message and are answered together: a round trip for all of them, not for each.
// The kernel takes them in order and goes on after one that failed (netlink_rcv_skb), so what follows must do no harm then.
type Batch struct {
	space *Space
	steps []step
}

type step struct {
	what     string
	request  *nl.NetlinkRequest
	optional bool
	found    *Found // what the answer is read into
}

// Found is what a Look has found when its Batch has been run.
type Found struct {
	Index, Peer int  // of the interface, and of the other end of its pair
	Up          bool // it passes packets
}

// Batch begins a list of changes in the namespace.
func (s *Space) Batch() *Batch { return &Batch{space: s} }

func (b *Batch) add(kind, flags int, what string, data ...nl.NetlinkRequestData) *step {
	req := nl.NewNetlinkRequest(kind, flags)
	for _, d := range data {
		req.AddData(d)
	}
	b.steps = append(b.steps, step{what: what, request: req})
	return &b.steps[len(b.steps)-1]
}

// Up brings the interface with an index up.
func (b *Batch) Up(index int) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), unix.IFF_UP, unix.IFF_UP
	b.add(unix.RTM_NEWLINK, 0, fmt.Sprintf("bring up interface %d", index), msg)
}

// Look looks at an interface, also at one that the changes before have made. It is on them that the kernel works off first what it would
// otherwise come to later: whether the interface has a carrier (linkwatch_sync_dev in rtnl_getlink, Linux 6.8).
func (b *Batch) Look(name string) *Found {
	found := &Found{}
	s := b.add(unix.RTM_GETLINK, 0, "look up interface "+name, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	s.found = found
	return found
}

// AddAddress gives an interface an address, or changes the one that is there. IPv6 ones are used at once, without duplicate address
// detection (IFA_F_NODAD), unless detect is set.
func (b *Batch) AddAddress(index int, p netip.Prefix, detect bool) {
	flags := uint32(unix.IFA_F_NODAD)
	if detect {
		flags = 0
	}
	b.addAddress(index, p, flags)
}

// AddAddressAlone is AddAddress without duplicate address detection, and without the route to the address's subnet that the kernel makes.
func (b *Batch) AddAddressAlone(index int, p netip.Prefix) {
	b.addAddress(index, p, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
}

func (b *Batch) addAddress(index int, p netip.Prefix, flags uint32) {
	msg := nl.NewIfAddrmsg(unix.AF_INET)
	if p.Addr().Is6() {
		msg.Family = unix.AF_INET6
	} else {
		flags &^= unix.IFA_F_NODAD // IPv4 would only keep it, and show it
	}
	msg.Index, msg.Prefixlen = uint32(index), uint8(p.Bits())
	ip := p.Addr().AsSlice()
	data := []nl.NetlinkRequestData{
		msg, nl.NewRtAttr(unix.IFA_LOCAL, ip), nl.NewRtAttr(unix.IFA_ADDRESS, ip), nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(flags)),
	}
	if p.Addr().Is4() && p.Bits() < 31 { // RFC 3021: a subnet of two has none
		data = append(data, nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(p)))
	}
	b.add(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, fmt.Sprintf("add address %s", p), data...)
}

func broadcast(p netip.Prefix) []byte {
	ip := p.Addr().As4()
	binary.BigEndian.PutUint32(ip[:], binary.BigEndian.Uint32(ip[:])|(1<<(32-p.Bits())-1))
	return ip[:]
}

// Route is one to be added. Zero values are the kernel's defaults: an invalid Gw makes a route on the link, no Table the main one.
type Route struct {
	Dst                   netip.Prefix
	Gw, Src               netip.Addr
	Priority, MTU, AdvMSS int
	Table, Scope          int
	Replace               bool // a route to the same destination goes
}

func (r Route) String() string {
	if !r.Gw.IsValid() {
		return r.Dst.String()
	}
	return fmt.Sprintf("%s via %s", r.Dst, r.Gw)
}

// AddRoute adds a route by an interface.
func (b *Batch) AddRoute(index int, r Route) {
	msg := nl.NewRtMsg()
	msg.Family, msg.Dst_len, msg.Scope = unix.AF_INET, uint8(r.Dst.Bits()), uint8(r.Scope)
	if r.Dst.Addr().Is6() {
		msg.Family = unix.AF_INET6
	}
	data := []nl.NetlinkRequestData{msg}
	number := func(kind, value int) *nl.RtAttr { return nl.NewRtAttr(kind, nl.Uint32Attr(uint32(value))) }
	add := func(a *nl.RtAttr) { data = append(data, a) }
	add(nl.NewRtAttr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
	if r.Gw.IsValid() {
		add(nl.NewRtAttr(unix.RTA_GATEWAY, r.Gw.AsSlice()))
	}
	if r.Src.IsValid() {
		add(nl.NewRtAttr(unix.RTA_PREFSRC, r.Src.AsSlice()))
	}
	if r.Table > 0 {
		if msg.Table = unix.RT_TABLE_UNSPEC; r.Table < 256 {
			msg.Table = uint8(r.Table)
		}
		add(number(unix.RTA_TABLE, r.Table))
	}
	if r.Priority > 0 {
		add(number(unix.RTA_PRIORITY, r.Priority))
	}
	if r.MTU > 0 || r.AdvMSS > 0 {
		metrics := nl.NewRtAttr(unix.RTA_METRICS, nil)
		for _, m := range [][2]int{{unix.RTAX_MTU, r.MTU}, {unix.RTAX_ADVMSS, r.AdvMSS}} {
			if m[1] > 0 {
				metrics.AddChild(number(m[0], m[1]))
			}
		}
		add(metrics)
	}
	add(number(unix.RTA_OIF, index))
	flags := unix.NLM_F_CREATE
	if r.Replace {
		flags |= unix.NLM_F_REPLACE
	}
	b.add(unix.RTM_NEWROUTE, flags, fmt.Sprintf("add route to %s", r), data...)
}

// Run sends the changes and returns the error of the first that failed, nil when all were made. A Batch can be run again.
func (b *Batch) Run() error {
	if len(b.steps) == 0 {
		return nil
	}
	shared := b.space.sockets[unix.NETLINK_ROUTE]
	shared.Socket.Lock()
	defer shared.Socket.Unlock()
	last := atomic.AddUint32(&shared.Seq, uint32(len(b.steps)))
	first := last - uint32(len(b.steps)) + 1
	var out []byte
	for i, s := range b.steps {
		s.request.Seq = first + uint32(i)
		if s.request.Seq == last {
			s.request.Flags |= unix.NLM_F_ACK // the others are answered when they fail
		}
		out = append(out, s.request.Serialize()...)
		out = append(out, make([]byte, -len(out)&(unix.NLMSG_ALIGNTO-1))...)
	}
	fd := shared.Socket.GetFd()
	if err := unix.Sendto(fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("%s: send netlink message: %w", b.steps[0].what, err)
	}
	results, err := b.answers(fd, first)
	if err != nil {
		return fmt.Errorf("%s: receive netlink message: %w", b.steps[0].what, err)
	}
	for i, errno := range results {
		if errno != 0 && !b.steps[i].optional {
			return fmt.Errorf("%s: %w", b.steps[i].what, errno)
		}
	}
	return nil
}

// answers reads the answers to the requests, whose numbers begin with first. The kernel has queued them before sendto returned.
func (b *Batch) answers(fd int, first uint32) ([]syscall.Errno, error) {
	results := make([]syscall.Errno, len(b.steps))
	buf := make([]byte, 8<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			i := m.Header.Seq - first // of an earlier request: beyond the last
			switch {
			case i >= uint32(len(b.steps)):
			case m.Header.Type == unix.RTM_NEWLINK && b.steps[i].found != nil:
				b.steps[i].found.read(m.Data)
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				results[i] = syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
				if i == uint32(len(b.steps))-1 {
					return results, nil
				}
			}
		}
	}
}

// read takes an interface from a message of the kernel's.
func (f *Found) read(message []byte) {
	header := nl.DeserializeIfInfomsg(message)
	*f = Found{Index: int(header.Index)}
	attrs, err := nl.ParseRouteAttr(message[header.Len():])
	if err != nil {
		return // an index is all that there is to know
	}
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.IFLA_LINK && len(a.Value) == 4:
			f.Peer = int(binary.NativeEndian.Uint32(a.Value))
		case a.Attr.Type == unix.IFLA_OPERSTATE && len(a.Value) == 1:
			f.Up = netlink.LinkOperState(a.Value[0]) == netlink.OperUp
		}
	}
}
