// Package mount makes detached mounts: descriptors of mounts that stand in no mount table until a
// container's process attaches them. Everything goes through the descriptor-based mount API (Linux
// 5.12: open_tree, fsopen, fsmount, move_mount, mount_setattr), so nothing here shows on the host,
// parses mountinfo, or has to be unmounted: closing the descriptor ends the mount.
//
// The one exception is Pin, which puts a namespace at a path of the host where others look for it.
package mount
