// Package hostlocal is the CNI plugin host-local: it gives out the addresses of ranges, each to one attachment of this host.
//
// Its leases lie on disk as the reference plugin lays them, so that each can go on where the other stopped:
//
//	dataDir/NETWORK/10.88.0.7            one lease: the container's id, CR LF, the interface's name
//	dataDir/NETWORK/last_reserved_ip.0   where range set 0 goes on
//	dataDir/NETWORK/lock                 flock(2) held over each change
//
// The file's creation with O_EXCL is the lease: two can never have one address, whoever they are. What is kept in memory only
// saves reading the folder again while nobody else has touched it: it is thrown away when the folder's modification time is
// another than the one that we left. A stale one could at worst miss that the same container already had an address.
//
// The package must not know bridges, namespaces or netlink.
package hostlocal
