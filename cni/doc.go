// Package cni attaches pods to the network: it is given a pod's network namespace, and does not ask whose it is.
//
// Configuration is standard CNI. The first valid file of the configuration directory in lexical order is the pod network, read anew
// when it changes; with no file at all, the built-in network: a bridge with addresses of its own, masqueraded, with host ports.
// libcni runs the plugin chains. Under it, executor runs the types of folder plugin in this process, and all others as processes
// from the binary directories, as it does with a configuration that one of ours does not support when the reference plugin is there.
//
//	Add ─ record ─ lo up ─ libcni ─ executor ─┬─ plugin/bridge ─ (ipam) plugin/hostlocal     netlink, nf_tables
//	                                          ├─ plugin/portmap
//	                                          └─ /opt/cni/bin/TYPE
//
// Invariants:
//
//   - An attachment's record is on disk before its ADD, and stays until its DEL has succeeded. It holds the plugin list, so
//     that the DEL undoes that ADD, whatever is configured by then.
//   - A failed ADD is undone under a deadline of its own.
//   - DEL waits for no namespace, and for no interface, to be gone.
//   - The network namespace of the thread that called New is the host; nothing here depends on the current one. Only a
//     plugin process starts in the namespace of the thread that calls Add.
//   - What is made for the pods as a whole (the built-in bridge, nf_tables) goes a few seconds after the last of them, and with
//     Close. It carries the daemon's directory in its name or alias, so that daemons side by side leave each other alone.
//
// On disk, below the directory that New is given:
//
//	attachments/ID.json       a pod's record
//	results/NET-ID-eth0       its result: libcni's cache
//	networks/berth/ADDRESS    leases of the built-in network
//	pod-cidrs                 its subnets, as the kubelet gave them
//
// The package must not know sandboxes, containers or images.
package cni
