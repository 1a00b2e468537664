// Package fscontext makes file systems by the mount API of descriptors: fsopen(2), fsconfig(2), fsmount(2). What comes out is a detached mount,
// which is in nobody's mount table, and its errors have what the kernel says of them.
//
// Not its concern: which options a file system has.
package fscontext
