package podif

import "github.com/berth-runtime/berth/cni/plugin/link"

// Notify has the kernel tell the neighbours of the addresses that the interface has when it comes up (arp_notify and ndisc_notify,
// ip-sysctl.rst): they may know another holder. What fails is left: neighbours then find out by themselves, some seconds later, and that is no
// reason to have no pod.
func (i Interface) Notify() {
	_ = i.Sysctls.Set(i.Pod, "net/ipv4/conf/"+i.Name, link.Sysctl{Name: "arp_notify", Value: "1"})
	_ = i.Sysctls.Set(i.Pod, "net/ipv6/conf/"+i.Name, link.Sysctl{Name: "ndisc_notify", Value: "1"})
}

// Announce is Notify for an interface that is up, which got its addresses later: there the kernel tells of them when the interface gets a MAC
// address, be it the one that it has (NETDEV_CHANGEADDR: inetdev_event, ndisc_netdev_event).
func (i Interface) Announce() {
	i.Notify()
	if l, err := i.Pod.Link(i.Name); err == nil && l != nil {
		_ = i.Pod.Netlink().LinkSetHardwareAddr(l, l.Attrs().HardwareAddr)
	}
}
