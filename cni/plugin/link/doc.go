// Package link reaches network namespaces: it opens them, makes the sockets inside them that talk rtnetlink, writes their
// sysctls, and joins them to the host by veth pairs.
//
// A Space is one namespace. The host is a Space like any other, so that a test can be the host in a namespace of its own and
// leave the machine alone; nothing here uses "the current namespace" but Current. Sockets belong for ever to the namespace that
// they were made in (socket(7), network_namespaces(7)), so a Space changes the namespace of a thread twice only: to make its
// socket, and in Do, for what netlink cannot say (/proc/sys/net shows the namespace of the thread that looks).
//
// Removing a veth makes the caller wait for an RCU grace period (rcu_barrier in netdev_run_todo, 9 to 28 ms). No caller should:
// a Reaper takes the interface off the caller's hands, and the end of the namespace mostly is quicker than it.
//
// The package knows no plugin, no pod and no configuration.
package link
