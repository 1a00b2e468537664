// Package overlay makes the mounts that containers see images through: overlayfs over unpacked layers.
//
// Duty: mounts that exist as a descriptor and nowhere in the node's mount table: fsopen(2), fsconfig(2), fsmount(2), and open_tree(2) for
// a single directory. Whoever has the descriptor attaches it, in whatever mount namespace; when nobody has it any more and it is attached
// nowhere, it is gone.
//
// Layers go in one by one ("lowerdir+", Linux 6.7), as fsconfig takes no string above 255 bytes. On older kernels, mount(2) is given
// all of them in one string, short by naming them by descriptor relative to /proc/thread-self/fd; that happens in a thread of
// its own with a mount namespace of its own, of which only a detached copy of the mount leaves.
//
// In a user namespace the layers are seen through its mapping: one idmapped mount of the directory above all layers is made, the layers
// are opened below it and given to overlayfs by descriptor (Linux 6.15 takes those of a detached mount; on older ones the idmapped mount
// covers that directory in the thread's mount namespace). Overlayfs takes mapped layers since Linux 5.19.
//
// A layer may also be a mount of its own, attached nowhere, given by descriptor (Linux 6.15); in a user namespace it has a mapped clone of
// its own. Before, overlayfs takes only what is attached where its maker is: there such layers are attached, until they are released, in a mount
// namespace that has nothing else, with a thread that stays in it and makes the overlays. Files of such layers are on as many file systems, and show as many devices (directories show the overlay's). xino=on would give them one, and
// numbers of 64 bits for that, which programs of 32 bits without large files can't read, and JavaScript can't tell apart.
//
// Not its concern: what is in the directories, who they belong to, and removing them.
//
// Options: index=off and metacopy=off, so that a layer below can be shared by mounts and never trusts an attribute of an image;
// redirect_dir=nofollow for the same reason; volatile where the caller throws the upper away anyhow (Linux 5.10): nothing is synced, not
// even at unmount.
package overlay
