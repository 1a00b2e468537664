// Package rival runs another node runtime, for berth to be compared with in the same run: the containerd that
// hack/tools/containerd pins, with the runc of hack/tools/runc, in a place of its own.
//
// A containerd of it shares nothing with one that the machine may have: it has its own root, state, sockets,
// registries, NRI and CNI directories, and a mount namespace that takes its mounts with it. It has no network for
// pods: they use the node's.
package rival
