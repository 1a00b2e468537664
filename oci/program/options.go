package program

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// MountOptions are the options of a mount(8) option list, sorted by what the new mount API does with
// them (mount_setattr(2), fsconfig(2)).
type MountOptions struct {
	Set, Clear                   uint64 // MOUNT_ATTR_* for the mount itself
	RecursiveSet, RecursiveClear uint64 // … and for all mounts below it
	Propagation                  uint64 // MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0
	RecursivePropagation         bool
	Bind, RecursiveBind          bool
	IDMap, RecursiveIDMap        bool
	Data                         []string // what is left for the file system: "size=64m", "newinstance"
}

var mountAttrs = map[string]struct {
	attr  uint64
	clear bool
}{
	"ro": {unix.MOUNT_ATTR_RDONLY, false}, "rw": {unix.MOUNT_ATTR_RDONLY, true},
	"nosuid": {unix.MOUNT_ATTR_NOSUID, false}, "suid": {unix.MOUNT_ATTR_NOSUID, true},
	"nodev": {unix.MOUNT_ATTR_NODEV, false}, "dev": {unix.MOUNT_ATTR_NODEV, true},
	"noexec": {unix.MOUNT_ATTR_NOEXEC, false}, "exec": {unix.MOUNT_ATTR_NOEXEC, true},
	"nodiratime": {unix.MOUNT_ATTR_NODIRATIME, false}, "diratime": {unix.MOUNT_ATTR_NODIRATIME, true},
	"nosymfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, false}, "symfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, true},
	// The access time modes are one field of the attributes: setting one clears the whole field.
	"noatime": {unix.MOUNT_ATTR_NOATIME, false}, "atime": {unix.MOUNT_ATTR_NOATIME, true},
	"strictatime": {unix.MOUNT_ATTR_STRICTATIME, false},
	"relatime":    {unix.MOUNT_ATTR_RELATIME, false},
}

var propagations = map[string]uint64{
	"shared": unix.MS_SHARED, "slave": unix.MS_SLAVE, "private": unix.MS_PRIVATE, "unbindable": unix.MS_UNBINDABLE,
}

// Below are the options that hold for what is mounted below the mount too; where they say nothing of propagation, there is none.
func (o MountOptions) Below() MountOptions {
	below := MountOptions{RecursiveSet: o.RecursiveSet, RecursiveClear: o.RecursiveClear, Propagation: unix.MS_PRIVATE}
	if o.RecursivePropagation {
		below.Propagation = o.Propagation
	}
	return below
}

// ParseMountOptions sorts an option list as runtime-spec's config.md ("Linux mount options") names
// them: each attribute also with an "r" before it for recursive. Options that contradict each other are
// an error that names both.
func ParseMountOptions(list []string) (MountOptions, error) {
	var o MountOptions
	for _, opt := range list {
		if err := o.add(opt); err != nil {
			return MountOptions{}, err
		}
	}
	if both := o.RecursiveSet & o.RecursiveClear; both != 0 {
		return MountOptions{}, fmt.Errorf("mount options %q: one attribute is both set and cleared recursively", list)
	}
	return o, nil
}

func (o *MountOptions) add(opt string) error {
	if a, ok := mountAttrs[opt]; ok {
		setAttr(&o.Set, &o.Clear, a.attr, a.clear, isAtime(opt))
		return nil
	}
	bare, recursive := strings.CutPrefix(opt, "r")
	if a, ok := mountAttrs[bare]; recursive && ok {
		setAttr(&o.RecursiveSet, &o.RecursiveClear, a.attr, a.clear, isAtime(bare))
		return nil
	}
	if p, ok := propagations[opt]; ok {
		return o.propagate(p, false, opt)
	}
	if p, ok := propagations[bare]; recursive && ok {
		return o.propagate(p, true, opt)
	}
	switch opt {
	case "bind":
		o.Bind = true
	case "rbind":
		o.Bind, o.RecursiveBind = true, true
	case "idmap":
		o.IDMap = true
	case "ridmap":
		o.IDMap, o.RecursiveIDMap = true, true
	case "", "defaults", "async", "nouser", "auto", "noauto", "silent", "loud":
		// nothing that the new mount API knows of
	default:
		o.Data = append(o.Data, opt)
	}
	return nil
}

func isAtime(opt string) bool {
	return strings.HasSuffix(opt, "atime") && !strings.Contains(opt, "dir")
}

// setAttr lets the later option win, as mount(8) does.
func setAttr(set, clr *uint64, attr uint64, clear, atime bool) {
	if atime {
		*set &^= unix.MOUNT_ATTR__ATIME
		*clr |= unix.MOUNT_ATTR__ATIME // "must be specified" with any of the field's values, mount_setattr(2)
		if !clear {
			*set |= attr
		}
		return
	}
	if clear {
		*clr |= attr
		*set &^= attr
		return
	}
	*set |= attr
	*clr &^= attr
}

func (o *MountOptions) propagate(p uint64, recursive bool, opt string) error {
	if o.Propagation != 0 && (o.Propagation != p || o.RecursivePropagation != recursive) {
		return fmt.Errorf("mount option %q contradicts an earlier propagation", opt)
	}
	o.Propagation, o.RecursivePropagation = p, recursive
	return nil
}
