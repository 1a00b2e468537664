// Package portmap is the CNI plugin portmap: it leads ports of the host to ports of a container.
//
// It takes the reference plugin's keys and its meaning in nf_tables: traffic to an address of the host is translated in
// prerouting and output; snat (the default) makes the port work from the container itself and from 127.0.0.1 (which needs
// route_localnet on the interface that leads to the container). Ports are elements of maps (package nft), and unlike the
// reference plugin, which lets the first of two pods win in silence, one that is taken is an error that names the holder.
//
// The key backend is taken in both its values: what they do is the same. externalSetMarkChain hands packets to another program's
// iptables chain and conditions can be any rule; a configuration that has what this package does not know is not supported, and
// falls to the reference plugin.
package portmap
