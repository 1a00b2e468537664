// Package tuning is the CNI plugin tuning: it changes variables of a container's network and properties of its interface, after the plugins
// that made it.
//
// What the interface was before is kept in a file until Del puts it back, as the reference plugin keeps it:
//
//	dataDir/CONTAINER_INTERFACE.json    /run/cni/tuning unless configured
//
// Variables (sysctl) are bound by /etc/cni/tuning/allowlist.conf, when there is one: a regular expression a line, of which one must match.
package tuning
