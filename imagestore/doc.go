// Package imagestore holds images: it pulls them from registries, keeps their layers unpacked, and makes root file systems of them.
//
// Duty: [Store.Pull] and [Store.Import] bring images in, [Store.Image] and [Store.Images] tell what is there, [Store.Remove] gives space back,
// and snapshots are the writable layers over an image by which containers see it. [Store] says which of its types does
// what, and which uses which. What they are built of are packages, of which archive knows layer and manifest, and the
// others, fault aside, know none:
//
//	registry/ archive/   where blobs come from: the network, a tar file
//	manifest/            which of them make up the image for this node
//	signature/           whether it may be used
//	layer/               from a blob to a directory, checked
//	overlay/             from directories to a mount
//	project/             what a directory takes, by the kernel's count
//	fault/               what keeps a panic over a stranger's image from ending the daemon
//
// Not its concern: containers, pods, CRI. A snapshot's key is a word of its caller's.
//
// On disk, below the store's root (all 0700, as layers hold set-user-ID programs that are nobody's to start from outside):
//
//	images.db            bbolt: what images and layers there are. The only truth.
//	layers/<chain id>/   an unpacked layer, by the hex of its chain ID, as it belongs over the layers below it
//	origins/<chain id>   what of the layer's tar isn't in its files, to make it again
//	blobs/<chain id>     the layer as it came, where blobs are kept
//	snapshots/<key>/     snapshot.json, fs/ (upper), work/ (no fs and work in a read-only view)
//	mountpoints/         lies below every snapshot's layers: where containers get something mounted
//	unpacking/<random>/  layers in the making, and those whose pull failed and may be tried again
//	staging/<random>/    snapshots in the making, or to come, and what is being deleted
//
// Invariants:
//   - An image in images.db is whole on disk: layers are unpacked into staging, checked, synced (syncfs(2), once a pull), renamed, and
//     only then recorded, in one transaction. A kill or power cut at any point leaves things that no record names, and Open deletes those.
//   - Nothing counts references on disk: a layer is in use while an image, a snapshot or a running pull names it, and that is computed.
//   - Reads (Image, Images, Snapshots) look at memory and wait for nothing. catalog.mu is never held while the disk or network is waited for;
//     catalog.commit is, and orders the writers of images.db.
//   - Callers that pull the same reference with the same credentials share one pull; it ends when the last of them is gone. Others have
//     a pull of their own, whose own manifest request the registry must grant, and share layers once these are here.
package imagestore
