// Package plugin is what a CNI plugin is when it runs inside the daemon: the CNI commands as methods, and a Call in place of the
// environment and the standard input that a plugin process gets.
//
// The plugins below this folder take the configuration keys of the reference plugins
// (containernetworking/plugins 1.9), give their results and keep their files on disk, so that a node can go from one to the other.
// Package link is what they do to interfaces, podif what they do to a container's, nft what they do to nf_tables, router to the host.
//
// A plugin knows neither the runtime nor libcni; it is given open namespaces, never enters one for good, and starts no process:
// what it delegates (IPAM), its caller runs.
package plugin
