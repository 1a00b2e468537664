// Package program compiles runtime-spec configurations into launch programs: flat lists of system
// calls that a freshly forked child walks from clone3 to execve (package launch does the walking).
//
// A Program has four parts:
//
//	Clone   the namespaces of the child, and its cgroup on v2
//	Steps   one system call each: number, up to six arguments, where the result goes, which errnos
//	        are fine, how far to skip on success or on a fine errno, and a label for people
//	Data    the bytes that arguments point to: strings, vectors, structs; Pointers and SlotRefs
//	        say where addresses and descriptor numbers are to be filled in
//	Slots   names of the descriptors that the caller brings: "root", "stdout", "mount /data"
//
// An argument is an immediate value, a place in Data, a slot, or a register that holds the result of
// an earlier step. Steps only ever skip forwards, so every program ends.
//
// The order of a container's program is what keeps it safe:
//
//	join cgroups and namespaces          by descriptor
//	proc, sysfs, cgroup made             fsopen, while the old root is still visible: the kernel wants
//	                                     a visible proc before it lets a user namespace mount one
//	root moved in, pivot_root, old root detached
//	──────── from here a symlink in an image can lead nowhere but into the image ────────
//	mountpoints made and mounts attached openat2 RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS; below /proc
//	                                     and /sys RESOLVE_NO_SYMLINKS from the mount's own descriptor
//	devices, masked and read-only paths
//	limits, working directory, descriptors, credentials, seccomp, execve
//
// A container with hooks that want the host's files beside the container's mounts (createRuntime,
// createContainer) has its root mounted below the host's first, and pivot_root comes after those hooks. Its
// mounts are resolved by the same openat2 from the root's own descriptor, so that links lead nowhere there either.
//
// Everything here is pure: it opens nothing, and the same input gives the same program, which golden
// files under testdata hold as text. What exists on the host arrives as slots that package oci opened.
package program
