package link

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Counters are what passed an interface since it was made, as the namespace sees it: received is what came in to the pod.
type Counters struct {
	Name                string
	RxBytes, RxPackets  uint64
	RxErrors, RxDropped uint64
	TxBytes, TxPackets  uint64
	TxErrors, TxDropped uint64
	Index               int
	Up                  bool
}

// ReadCounters returns the counters of all interfaces of a network namespace but the loopback one, in the order of their making. netns is
// an open descriptor, which stays the caller's. It is one question to the kernel (RTM_GETLINK, rtnetlink(7)), reads no file
// and leaves no socket in the namespace.
func ReadCounters(fd int) ([]Counters, error) {
	socket, err := nl.GetNetlinkSocketAt(netns.NsHandle(fd), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket in network namespace: %w", err)
	}
	defer socket.Close()
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	answers, err := Whole(func() ([][]byte, error) { return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK) })
	if err != nil {
		return nil, fmt.Errorf("read counters of interfaces: %w", err)
	}
	var out []Counters
	for _, answer := range answers {
		header := nl.DeserializeIfInfomsg(answer)
		if header.Flags&unix.IFF_LOOPBACK != 0 {
			continue
		}
		attrs, err := nl.ParseRouteAttr(answer[header.Len():])
		if err != nil {
			return nil, fmt.Errorf("read counters of interface %d: %w", header.Index, err)
		}
		c := Counters{Index: int(header.Index), Up: header.Flags&uint32(net.FlagUp) != 0}
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.IFLA_IFNAME:
				c.Name = nl.BytesToString(a.Value)
			case unix.IFLA_STATS64:
				c.read(a.Value)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// read takes the first fields of struct rtnl_link_stats64 (linux/if_link.h), which later kernels add to at its end.
func (c *Counters) read(stats []byte) {
	for i, to := range []*uint64{
		&c.RxPackets, &c.TxPackets, &c.RxBytes, &c.TxBytes, &c.RxErrors, &c.TxErrors, &c.RxDropped, &c.TxDropped,
	} {
		if len(stats) >= 8*(i+1) {
			*to = binary.NativeEndian.Uint64(stats[8*i:])
		}
	}
}
