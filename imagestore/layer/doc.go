// Package layer turns one layer of an image, as a registry sends it, into what overlayfs can use: a file that is mounted (packed), or a directory.
//
// Duty: [Unpack] reads a blob once, from the network if need be, and everything overlaps:
//
//	blob ──▶ digest ──▶ inflate ──▶ diff-ID ──▶ tar ──▶ files
//	     receive      decompress  verify       apply
//	     (goroutine)  (goroutine) (goroutine)  (the caller)
//
// Blocks of memory travel along; a slow stage slows those before it, and nothing is stored between them. [Adopt] then gives
// directories that the tar had no entry for what the layers below say of them.
//
// [Packer.Pack] is the same for a packed layer, with another last stage: the blocks of the tar go to the disk as they come, past the page cache, and
// an index of its headers behind them, by package erofs. [AdoptPacked] completes it. Few layers can't be packed: their tar is in the file all the same, and
// [UnpackPacked] makes a directory of it. What a layer's files are doesn't depend on which it is.
//
// Not its concern: where blobs come from, what an image is, where layers are kept and for whom, and bringing directories to the disk.
//
// Invariants:
//   - Nothing outside the layer's directory is read or written, whatever names, links and symlinks the tar holds, as long as
//     nobody else writes below that directory meanwhile. Every call takes the descriptor of a directory that was itself opened
//     with openat2(2), RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, and one name without a slash.
//   - A nil error from Unpack or Pack means: the blob's size, digest and diff-ID are those promised, and every entry was made.
//   - After an error the directory or file holds anything; the caller throws it away.
//
// What a name means, where the OCI image specification leaves it open:
//   - A name that goes above the root ("../x") is refused, one that starts with a slash starts at the layer's root.
//   - An entry below a symlink of the same layer goes where the link leads, taken as inside a container whose root is the layer,
//     as containerd and umoci do; the missing end of a dangling one is made.
//   - An entry replaces an earlier one of its name, except that directories are merged. A whiteout doesn't touch what its own layer
//     brings: it makes a directory of that name opaque.
//   - The layer's parent directory, when the tar has entries below a directory that it has no entry for, takes mode, owner and
//     extended attributes from the nearest layer below (overlayfs would show the upper's otherwise).
//   - trusted.overlay.* attributes in a tar are dropped: overlayfs would believe them.
//
// The result follows the overlayfs documentation of Linux: a whiteout is a character device 0/0, an opaque directory has
// trusted.overlay.opaque=y. Overlayfs ignores that mark on a layer's root, so it is reported instead ([Unpacked.OpaqueRoot]).
package layer
