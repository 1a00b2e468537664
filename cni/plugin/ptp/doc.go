// Package ptp is the CNI plugin ptp: a veth pair joins the container to the host alone, which routes for it.
//
//	container  ADDRESS/LEN, GATEWAY dev eth0 scope link, SUBNET via GATEWAY      host  GATEWAY/32 on the veth, ADDRESS/32 dev veth
//
// The container reaches all of its subnet by the gateway, so two containers of a subnet talk through the host. The kernel's own route
// to the subnet is never made (IFA_F_NOPREFIXROUTE), where the reference plugin makes and deletes it.
//
// Del takes the host's route away at once, and leaves the pair to the end of the namespace, or to a link.Reaper.
package ptp
