// Package bridge is the CNI plugin bridge: a container's interface is one end of a veth pair, the other is a port of a bridge on
// the host.
//
// It takes the reference plugin's keys and gives its results. What it does differently, it does for speed, and nobody can tell from the
// outside:
//
//   - Both ends get their names, MAC addresses and namespaces in the one request that makes them, the bridge as master with it.
//   - The bridge gets a MAC address of its own when it is made, so its ports coming and going never change it.
//   - Its ports have that address too: the bridge's table has one of its own, not one for each port.
//   - Addresses come before the pair: when there are none, nothing is to be undone.
//   - Del takes the addresses off the container's interface, so that nothing uses them any more once they are free, and leaves the
//     pair to the end of the namespace, and else to a link.Reaper. Removing a veth would wait for an RCU grace period.
//   - A veth that waits for the reaper is removed at once when an Add wants its name in the same namespace.
//
// Two keys are berth's own. berthDirect lists subnets where ipMasq masquerades nothing: other nodes' pods. The other is berthOwner. A bridge
// that is made for a configuration with it carries it as its alias, one that exists must carry the same: so two daemons cannot take one bridge
// for two networks, and a daemon knows which bridge it may remove. It passes multicast to all ports, as other bridges do while they have no
// querier, without snooping, but for MLDv2 reports, which nf_tables drops (nft.Reports).
//
// Such a bridge may be given further subnets: those must not overlap the ones it has, and pods of each keep their gateway. The plugin does not
// know which pods there are, so no gateway goes before the bridge does, and neither does the host's route to its subnet: until then that
// cannot be another node's.
package bridge
