package oci

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/berth-runtime/berth/oci/mount"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inUserNamespace says whether the spec's process is in a user namespace that is not the daemon's.
func inUserNamespace(spec *specs.Spec) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

// hostID is the host's id for one of a container; false: it is not mapped.
func hostID(mappings []specs.LinuxIDMapping, id uint32) (uint32, bool) {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID), true
		}
	}
	return 0, false
}

// giveOutputs makes pipes belong to the process's user, so that it can open /dev/stdout again: from inside a
// user namespace the launch may not.
func giveOutputs(stdout, stderr *os.File, linux *specs.Linux, uid uint32) error {
	id, ok := hostID(linux.UIDMappings, uid)
	if !ok {
		return fmt.Errorf("user %d: not mapped in the user namespace", uid)
	}
	for _, f := range []*os.File{stdout, stderr} {
		if f == nil {
			continue
		}
		if err := f.Chown(int(id), -1); err != nil {
			return fmt.Errorf("give output to user %d: %w", id, err)
		}
	}
	return nil
}

// devices makes what a user namespace can't: the tmpfs on /dev with the device nodes in it, from outside, where
// it is writable for the namespace's root like any other. Nodes elsewhere become mounts of their
// own. sources is completed; made says whether there is a /dev of ours at all.
//
// Nodes belong to whom they belong to on the host, as if they were bind mounted from there: a privileged
// container in a user namespace gets no access to a disk by owning its node.
func (b *bag) devices(spec *specs.Spec, sources []program.Source) (made bool, err error) {
	at := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == "/dev" && m.Type == "tmpfs" })
	if at < 0 {
		return false, nil // the client's own /dev: not ours to fill
	}
	m := spec.Mounts[at]
	options := slices.Clone(m.Options)
	for key, mappings := range map[string][]specs.LinuxIDMapping{"uid": spec.Linux.UIDMappings, "gid": spec.Linux.GIDMappings} {
		if id, ok := hostID(mappings, 0); ok {
			options = append(options, fmt.Sprintf("%s=%d", key, id))
		}
	}
	dev, err := mount.New("tmpfs", options)
	if err != nil {
		return false, fmt.Errorf("mount on %s: %w", m.Destination, err)
	}
	b.give(program.SourceSlot(m), dev)
	sources[at] = program.Source{Slot: true, Dir: true}
	owner := [2]int{-1, -1}
	if uid, ok := hostID(spec.Linux.UIDMappings, 0); ok {
		owner[0] = int(uid)
	}
	if gid, ok := hostID(spec.Linux.GIDMappings, 0); ok {
		owner[1] = int(gid)
	}
	for _, d := range program.Devices(spec) {
		if below, ok := strings.CutPrefix(d.Path, "/dev/"); ok {
			err = node(dev, below, d, owner)
		} else {
			err = b.lonelyNode(d, mountLabel(spec))
		}
		if err != nil {
			return false, fmt.Errorf("make device %s: %w", d.Path, err)
		}
	}
	return true, nil
}

// node makes a device node below a directory that nobody else has yet; directories on the way get the owner.
func node(dir *os.File, name string, d specs.LinuxDevice, owner [2]int) error {
	mode, number, err := program.Node(d)
	if err != nil {
		return err
	}
	at := int(dir.Fd())
	for i, c := range name {
		if c != '/' {
			continue
		}
		err := unix.Mkdirat(at, name[:i], 0o755)
		if err == nil {
			err = unix.Fchownat(at, name[:i], owner[0], owner[1], unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("mkdir: %w", err)
		}
	}
	if err := unix.Mknodat(at, name, mode, int(number)); err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	if err := unix.Fchmodat(at, name, mode&0o777, 0); err != nil { // past our umask
		return fmt.Errorf("chmod: %w", err)
	}
	if d.UID == nil && d.GID == nil {
		return nil
	}
	uid, gid := 0, 0
	if d.UID != nil {
		uid = int(*d.UID)
	}
	if d.GID != nil {
		gid = int(*d.GID)
	}
	if err := unix.Fchownat(at, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	return nil
}

// lonelyNode makes a device node that is a mount of its own.
func (b *bag) lonelyNode(d specs.LinuxDevice, label string) error {
	dir, err := mount.New("tmpfs", Labelled([]string{"nosuid", "noexec", "mode=700", "size=4k"}, label))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := node(dir, "node", d, [2]int{-1, -1}); err != nil {
		return err
	}
	fd, err := unix.Openat(int(dir.Fd()), "node", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	at := os.NewFile(uintptr(fd), "node")
	defer at.Close()
	f, err := mount.Below(dir, at)
	if err != nil {
		return err
	}
	b.give(program.DeviceSlot(d.Path), f)
	return nil
}
