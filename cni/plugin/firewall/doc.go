// Package firewall is the CNI plugin firewall: it lets a container's packets pass the host's filter of forwarded packets.
//
// It takes the reference plugin's keys, and its meaning with iptables' nf_tables variant: what containers send is accepted, and what
// answers them, unless the chain CNI-ADMIN (iptablesAdminChainName) says otherwise, whatever the policy of the host's chain FORWARD. The
// ingressPolicy "same-bridge" keeps bridges apart, "isolated" the ports of one as well. Addresses are elements of sets (nft.Filter), and
// not two rules each. What the reference plugin made for a container is deleted with it.
//
// A host whose filter is not nf_tables' (firewalld, the older iptables) is a matter for the reference plugin.
package firewall
