package leak

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// links are the network interfaces of our network namespace.
func links() ([]Leak, error) {
	list, err := netlink.LinkList()
	for try := 0; errors.Is(err, netlink.ErrDumpInterrupted) && try < 20; try++ { // a link came or went meanwhile
		list, err = netlink.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := make([]Leak, len(list))
	for i, l := range list {
		a := l.Attrs()
		out[i] = Leak{"link", fmt.Sprintf("%d %s", a.Index, a.Name), l.Type()}
		if master, err := netlink.LinkByIndex(a.MasterIndex); a.MasterIndex != 0 && err == nil {
			out[i].More += " in " + master.Attrs().Name
		}
	}
	return out, nil
}
