package podif

import (
	"errors"
	"fmt"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// ErrExists says that the container has an interface of this name already.
var ErrExists = errors.New("exists in the container")

// Clear removes a veth of the wanted name that is only waiting for the reaper. It is ErrExists when another has the name, and no error when
// nobody has: then it was the name of the host's end that was taken.
func Clear(pod *link.Space, name string, reaper *link.Reaper) error {
	old, err := pod.Link(name)
	if err != nil || old == nil {
		return err
	}
	if peer := old.Attrs().ParentIndex; old.Type() == "veth" && reaper.Has(peer) {
		return reaper.Now(peer)
	}
	return fmt.Errorf("interface %s %w", name, ErrExists)
}

// Detach silences a container's end of a veth pair, so that its addresses can be given out again, and leaves the pair to the reaper. An
// interface that is none, or is gone, is no error.
func Detach(pod *link.Space, name string, reaper *link.Reaper) error {
	l, err := pod.Link(name)
	if err != nil || l == nil {
		return err
	}
	if l.Type() != "veth" || l.Attrs().ParentIndex == 0 {
		return nil // not of an Add of ours
	}
	addrs, err := pod.Addresses(l.Attrs().Index)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if err := pod.DeleteAddress(l.Attrs().Index, a.Prefix); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
	}
	reaper.Later(l.Attrs().ParentIndex)
	return nil
}
