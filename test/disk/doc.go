// Package disk makes block devices for tests of what is left after a power cut, and on disks that are full or can't be written.
//
// A [Recorder] is a disk that remembers each write and each flush in order. After a power cut a disk has all that was written before the last
// flush that it completed, and any part of what came later: [Recorder.Cut] makes such a disk, for any moment, as dm-log-writes does, which
// few kernels have. It is a file in a FUSE file system that the test itself serves, under a loop device: what the kernel's page cache has not
// written out is lost as in a machine.
//
// [Alone] runs a test in a process with a mount namespace of its own, so that nothing of this is seen by others, or left behind.
package disk
