// Package imagestore holds images: it pulls them from registries, keeps their layers as they can be mounted, and makes root file systems of them.
//
// Duty: [Store.Pull] and [Store.Import] bring images in, [Store.Image] and [Store.Images] tell what is there, [Store.Remove] gives space back,
// and snapshots are the writable layers over an image by which containers see it. [Store] says which of its types does
// what, and which uses which. What they are built of are packages, of which archive knows layer and manifest, and the
// others know at most erofs, fscontext and fault:
//
//	registry/ archive/   where blobs come from: the network, a tar file
//	manifest/            which of them make up the image for this node
//	signature/           whether it may be used
//	layer/               from a blob to a file that can be mounted, or a directory, checked
//	erofs/               such files
//	overlay/             from layers to a mount
//	fscontext/           how the kernel is told of a mount
//	project/             what a directory takes, by the kernel's count
//	fault/               what keeps a panic over a stranger's image from ending the daemon
//
// Not its concern: containers, pods, CRI. A snapshot's key is a word of its caller's.
//
// On disk, below the store's root (all 0700, as layers hold set-user-ID programs that are nobody's to start from outside):
//
//	images.db            bbolt: what images and layers there are. The only truth.
//	layers/<chain id>    a layer, by the hex of its chain ID, as it belongs over the layers below it: a file of package erofs, or a directory
//	origins/<chain id>   what of the tar isn't in the files of a layer that is a directory, to make it again
//	blobs/<chain id>     the layer as it came, where blobs are kept
//	snapshots/<key>/     snapshot.json, fs/ (upper), work/ (no fs and work in a read-only view)
//	mountpoints/         lies below every snapshot's layers: where containers get something mounted
//	unpacking/<random>/  layers in the making, and those whose pull failed and may be tried again
//	staging/<random>/    snapshots in the making, or to come, and what is being deleted
//
// Invariants:
//   - An image in images.db is whole on disk: layers are made in staging, checked, synced (a file by itself; directories by one syncfs(2) a pull),
//     renamed, and only then recorded, in one transaction. A kill or power cut at any point leaves things that no record names, and Open deletes those.
//   - Nothing counts references on disk: a layer is in use while an image, a snapshot or a running pull names it, and that is computed.
//   - Reads (Image, Images, Snapshots) look at memory and wait for nothing. catalog.mu is never held while the disk or network is waited for;
//     catalog.commit is, and orders the writers of images.db.
//   - Callers that pull the same reference with the same credentials share one pull; it ends when the last of them is gone. Others have
//     a pull of their own, whose own manifest request the registry must grant, and share layers once these are here.
package imagestore
