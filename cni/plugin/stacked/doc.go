// Package stacked is the CNI plugins macvlan, ipvlan and vlan: the container's interface stands on one of the host's, its master, or with
// linkInContainer on one that the container has already.
//
// It takes the reference plugins' keys and gives their results. The interface is born in the container's namespace, under its name, in
// one request.
package stacked
