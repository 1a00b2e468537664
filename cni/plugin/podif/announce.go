package podif

import "github.com/berth-runtime/berth/cni/plugin/link"

// Announce has the kernel tell the neighbours of the interface's addresses: they may know another holder. By itself it does so for those that an
// interface has when it comes up, where it is asked to (arp_notify and ndisc_notify, ip-sysctl.rst); for those that came later it does when the
// interface gets a MAC address, be it the one that it has (NETDEV_CHANGEADDR: inetdev_event, ndisc_netdev_event). What fails is left: neighbours
// then find out by themselves, some seconds later, and that is no reason to have no pod.
func (i Interface) Announce() {
	_ = i.Sysctls.Set(i.Pod, "net/ipv4/conf/"+i.Name, link.Sysctl{Name: "arp_notify", Value: "1"})
	_ = i.Sysctls.Set(i.Pod, "net/ipv6/conf/"+i.Name, link.Sysctl{Name: "ndisc_notify", Value: "1"})
	if l, err := i.Pod.Link(i.Name); err == nil && l != nil {
		_ = i.Pod.Netlink().LinkSetHardwareAddr(l, l.Attrs().HardwareAddr)
	}
}
