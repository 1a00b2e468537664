// Package hostdevice is the CNI plugin host-device: it moves an interface of the host into the container, under the container's name for
// it, and back.
//
// Interfaces are found by name (device), MAC address (hwaddr), directory in /sys (kernelpath) or their place on a bus (pciBusID, the
// capability deviceID). A device that a program is to drive (DPDK) has no interface to be moved. The host's name is kept in the interface's alias, as the reference plugin keeps it,
// so each moves back what the other moved in. Namespace, name and alias change in one request, in which the name is never one
// that is taken.
package hostdevice
