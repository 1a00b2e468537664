// Package nft keeps a daemon's nf_tables: published ports and masqueraded addresses of pods.
//
// Each network has one table of family inet, PREFIX-<hash of its name>. Its rules are static; a pod is elements of its sets and
// maps, so what a packet passes does not grow with the pods, and a pod costs one transaction:
//
//	map hostports4 { address . protocol . port : address . port }   chain prerouting  (nat, dstnat) ┐ fib daddr type local
//	map ports4     {           protocol . port : address . port }   chain output      (nat, dstnat) ┘ jump hostports
//	set snat4      { source . destination }                         chain hostports   dnat to … map @hostports4, @ports4
//	set masq4      { source }                                       chain postrouting (nat, srcnat)   jump hairpin, masquerade
//
// and the same with 6. hairpin masquerades
//
//   - what snat4 names: a pod that reaches itself by a host port, and the host's 127.0.0.1 on its way to a pod;
//   - one pod that reaches another of its subnet by a host port, on a host whose bridges do not pass netfilter: the answer
//     would go past the host, and nobody would undo the translation. This rule comes one a subnet.
//
// and masquerade an address of masq4 that leaves its subnet, but for multicast: one rule a subnet, as the reference plugin's.
//
// The comment of an element names its owner, so the kernel is the one place where this state lives. A Table mirrors it in memory:
// read once, then kept by whoever changes it, which is only this process (a table's name has the daemon's own prefix). When the
// kernel says that the mirror is wrong (somebody flushed the rule set), the mirror puts the table back.
//
// What the reference plugins made for an owner, by nft or by iptables' nf_tables variant, goes with the owner (reference.go, iptables.go,
// filterhost.go, spoof.go); the older iptables is not seen here. Filter, Guard and Reports keep tables of their own.
//
// The package must not know CNI, bridges or pods: an owner is a string.
package nft
