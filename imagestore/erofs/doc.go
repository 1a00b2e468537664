// Package erofs makes files that Linux mounts as a read-only file system of the kind EROFS (filesystems/erofs.rst), around contents that are in
// the file already.
//
// Duty: a layer of an image as one file in place of thousands:
//
//	0      header: the superblock, at 1024
//	4096   contents, as somebody else wrote them: a layer's tar, byte for byte, in which each regular file begins at a multiple of 512
//	…      directories, and long targets of symlinks, in blocks of 512 bytes
//	…      inodes, with extended attributes and short targets of symlinks
//
// Making a file costs the kernel fifty microseconds, whatever is in it; here a file costs a hundred bytes of metadata. Deleting a layer is
// deleting one file, syncing it to the disk waits for nobody else's writes, and the tar that it came from is still there.
//
// [Lay] says where everything goes, [Plan.WriteTo] and [Plan.Header] write it. What is not known yet of a directory may be written later, by [Amend]. The same tree
// gives the same bytes.
//
// The format is the kernel's own (fs/erofs/erofs_fs.h), of what every kernel since 6.4 reads: extended inodes, contents that are not compressed, blocks
// smaller than a page. A file without a block device below can be mounted since Linux 6.12.
//
// Not its concern: what a tar means, and who sees the files.
package erofs
