package podif

import (
	"errors"
	"fmt"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// ErrChanged says that an attachment is no longer as its result says.
var ErrChanged = errors.New("is not as it was set up")

// Check compares an interface's MAC address, addresses and routes with the result of the ADD.
func Check(pod *link.Space, name string, result *types100.Result) error {
	l, err := pod.Link(name)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("interface %s %w: it is gone", name, ErrChanged)
	}
	for _, i := range result.Interfaces {
		if i.Name == name && i.Sandbox != "" && i.Mac != "" && i.Mac != l.Attrs().HardwareAddr.String() {
			return fmt.Errorf("interface %s %w: MAC address %s, was %s", name, ErrChanged, l.Attrs().HardwareAddr, i.Mac)
		}
	}
	have, err := pod.Addresses(l.Attrs().Index)
	if err != nil {
		return err
	}
	for _, ip := range result.IPs {
		if at := ip.Interface; at != nil && *at >= 0 && *at < len(result.Interfaces) && result.Interfaces[*at].Name != name {
			continue
		}
		want := link.Prefix(ip.Address)
		if !slices.ContainsFunc(have, func(a link.Address) bool { return a.Prefix == want }) {
			return fmt.Errorf("interface %s %w: no address %s", name, ErrChanged, want)
		}
	}
	return checkRoutes(pod, l, result)
}

func checkRoutes(pod *link.Space, l netlink.Link, result *types100.Result) error {
	routes, err := link.Whole(func() ([]netlink.Route, error) { return pod.Netlink().RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list routes of %s: %w", l.Attrs().Name, err)
	}
	for _, want := range result.Routes {
		if want.Table != nil {
			continue // RouteList shows the main table
		}
		same := func(r netlink.Route) bool {
			return r.Dst != nil && r.Dst.String() == want.Dst.String() && (want.GW == nil || r.Gw.Equal(want.GW))
		}
		if !slices.ContainsFunc(routes, same) {
			return fmt.Errorf("interface %s %w: no route to %s", l.Attrs().Name, ErrChanged, want.Dst.String())
		}
	}
	return nil
}
