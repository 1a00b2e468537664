// Package cgroup makes, limits, kills and removes the control groups of
// containers. It knows no container: a group is a path and a set of OCI limits.
//
// A Tree is the node's hierarchy as it was at start:
//
//	V2   one cgroup2 at /sys/fs/cgroup; the child is cloned into the group
//	     (CLONE_INTO_CGROUP), and cgroup.kill ends it
//	V1   one mount a controller below /sys/fs/cgroup; the child writes itself into
//	     each cgroup.procs. A cgroup2 beside them ("hybrid") has no controllers, but
//	     berth uses it all the same, for its cgroup.kill
//
// A Group is the directory at the same path of every hierarchy. Paths begin at
// the hierarchy's root, wherever the daemon itself may be.
//
// Limits are lists of settings (v1Settings, v2Settings: pure), one file and value
// each. What the node does not grant (no swap accounting, a missing controller,
// EPERM) is left out with one Warning a feature and Tree; what is wrong with the
// value is an error. containerd/cgroups gives the conversions (shares to weight)
// and loads the device program; the files are written here, because its
// controllers need twice the time for a group (0.87 ms against 0.45 on v1,
// measured) and stop at the first file that a node lacks.
//
// What the package must not do: parse mountinfo, freeze, or touch a group that
// its caller did not name. Parents of a group that did not exist are made, marked by
// the sticky bit, so that Prune removes these and never one that kubelet or systemd
// made, also after a restart.
package cgroup
