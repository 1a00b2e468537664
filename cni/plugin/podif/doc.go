// Package podif is what plugins do to a container's interface once it is there: its variables, addresses and routes, as a CNI result says,
// and the comparison with that result later.
//
// It changes an interface in two messages to the kernel, whatever the number of addresses and routes. IPv6 addresses are used at once,
// without duplicate address detection, unless the configuration asks for it: an IPAM plugin does not give one address twice.
//
// The package must not know what kind of interface it is.
package podif
