// Package registry finds images in registries and opens their blobs.
//
// Duty: [Client.Resolve] asks the hosts that are configured for a name, one after the other, and says of each what it answered;
// [Repository.Fetch] opens a blob, goes on where a broken connection ended, and goes on to the next host when one fails.
//
// The protocol is containerd's core/remotes/docker, the configuration containerd's hosts.toml directories, so a node keeps the mirror settings
// it has: one directory a registry ("docker.io", "registry.example.com_5000_", "_default") below the configured one. Without one, https is
// spoken to the registry itself; with localhost and loopback addresses http too, when https isn't answered.
//
// Which host comes next: each host of hosts.toml in its order, the registry itself last. Any failure leads on to the next. What the last one
// said decides the error's kind, as that is the one the name belongs to; the message lists every host. A host that says it is busy (429,
// 502, 503, 504) is left for the next at once; the last is asked again, when it says or after a growing pause. A connection that brings
// nothing, or too little, is replaced: by one to the next host, or else to the same.
// Large blobs are asked for in parts, several at once. A host that answers with anything else than the part asked for is read from in one
// piece.
//
// Credentials of a pull are bound to one host: the one they name, or else the registry that the reference names. A mirror sees them only
// when they name it; a host that a registry redirects to never does. (The token server that a registry names does: that is the protocol.)
// containerd shows credentials that name no host to mirrors too; who runs a mirror need not be trusted with the registry's password, so
// mirrors get theirs from the node's credentials file, which has an entry for each host.
//
// Not its concern: what blobs mean, whether their digest is right, where they go.
package registry
