package link

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Move takes the interface with an index into another namespace, where it is called name, has an alias ("" for none) and is down. It is
// EEXIST, and nothing is changed, when the name is taken there.
func Move(from *Space, index int, to *Space, name, alias string) error {
	l, err := from.LinkAt(index)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("move interface %d to %s: %w", index, name, syscall.ENODEV)
	}
	taken, err := to.Link(name)
	if err != nil {
		return err
	}
	if taken != nil {
		return fmt.Errorf("move interface %s to %s: %w", l.Attrs().Name, name, syscall.EEXIST)
	}
	err = move(from, index, to, name, alias)
	if err == nil {
		return nil
	}
	// The kernel moves first, and renames then: what is there under its old name goes back.
	if still, look := from.LinkAt(index); look != nil || still != nil {
		return err
	}
	if half, look := to.Link(l.Attrs().Name); look == nil && half != nil {
		err = errors.Join(err, move(to, half.Attrs().Index, from, l.Attrs().Name, l.Attrs().Alias))
	}
	return err
}

func move(from *Space, index int, to *Space, name, alias string) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	b := from.Batch()
	b.add(unix.RTM_NEWLINK, 0, fmt.Sprintf("move interface %d to %s", index, name), msg,
		nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to.FD()))), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)),
		nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias)))
	return b.Run()
}
