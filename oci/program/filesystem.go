package program

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// filesystem makes a new detached mount of a kernel file system and returns the register that holds it.
// options are mount(8)'s.
func (b filesystemSteps) filesystem(fstype, source string, options []string) Reg {
	o, err := ParseMountOptions(options)
	if err != nil {
		b.fail("%s: %w", b.label, err)
	}
	ctx := b.reg()
	b.call(unix.SYS_FSOPEN, b.str(fstype), flags(unix.FSOPEN_CLOEXEC, "CLOEXEC")).into(ctx)
	if source != "" {
		b.config(ctx, "source", source)
	}
	for _, d := range o.Data {
		if key, value, ok := strings.Cut(d, "="); ok {
			b.config(ctx, key, value)
		} else {
			b.call(unix.SYS_FSCONFIG, ctx.arg(), flags(unix.FSCONFIG_SET_FLAG, "SET_FLAG"), b.str(d))
		}
	}
	b.call(unix.SYS_FSCONFIG, ctx.arg(), flags(unix.FSCONFIG_CMD_CREATE, "CREATE"))
	m := b.reg()
	attrs := o.Set | o.RecursiveSet
	b.call(unix.SYS_FSMOUNT, ctx.arg(), flags(unix.FSMOUNT_CLOEXEC, "CLOEXEC"), flags(attrs, attrText(attrs))).into(m)
	b.close(ctx)
	return m
}

// config sets a string of a file system context; the kernel takes at most 255 bytes (fs/fsopen.c).
func (b filesystemSteps) config(ctx Reg, key, value string) {
	if len(value) > 255 {
		b.fail("%s: option %s is longer than the kernel's 255 bytes", b.label, key)
	}
	b.call(unix.SYS_FSCONFIG, ctx.arg(), flags(unix.FSCONFIG_SET_STRING, "SET_STRING"), b.str(key), b.str(value))
}

func attrText(attrs uint64) string {
	names := []struct {
		bit  uint64
		name string
	}{
		{unix.MOUNT_ATTR_RDONLY, "RDONLY"}, {unix.MOUNT_ATTR_NOSUID, "NOSUID"}, {unix.MOUNT_ATTR_NODEV, "NODEV"},
		{unix.MOUNT_ATTR_NOEXEC, "NOEXEC"}, {unix.MOUNT_ATTR_NOATIME, "NOATIME"}, {unix.MOUNT_ATTR_STRICTATIME, "STRICTATIME"},
		{unix.MOUNT_ATTR_NODIRATIME, "NODIRATIME"}, {unix.MOUNT_ATTR_NOSYMFOLLOW, "NOSYMFOLLOW"},
	}
	var out []string
	for _, n := range names {
		if attrs&n.bit != 0 {
			out = append(out, n.name)
			attrs &^= n.bit
		}
	}
	if attrs != 0 || len(out) == 0 {
		out = append(out, strconv.FormatUint(attrs, 10))
	}
	return strings.Join(out, "|")
}

// early holds the file systems that are made while the host's root is still visible: the kernel lets a
// user namespace mount proc or sysfs only where one is fully visible already (fs/namespace.c,
// mount_too_revealing).
func early(fstype string) bool {
	switch fstype {
	case "proc", "sysfs", "cgroup2":
		return true
	}
	return false
}

// cgroupV1 mounts what a cgroup v1 node shows below /sys/fs/cgroup: a tmpfs with one hierarchy a
// directory, each from the container's own cgroup down (by the cgroup namespace), and the links that
// name the controllers of a shared hierarchy one by one.
func (b filesystemSteps) cgroupV1(m specs.Mount, hierarchies []string, label string) {
	o, err := ParseMountOptions(m.Options)
	if err != nil {
		b.fail("%s: %w", b.label, err)
	}
	tmp := b.filesystem("tmpfs", "cgroup", labelled([]string{"nosuid", "nodev", "noexec", "mode=755", "size=64k"}, label))
	b.labelf("mount the cgroup hierarchies on %s", m.Destination)
	b.attach(tmp.arg(), m.Destination, true)
	for _, h := range hierarchies {
		dir := strings.TrimPrefix(h, "name=")
		b.call(unix.SYS_MKDIRAT, tmp.arg(), b.str(dir), num(0o755))
		opts := append([]string{"nosuid", "nodev", "noexec"}, strings.Split(h, ",")...)
		if o.Set&unix.MOUNT_ATTR_RDONLY != 0 {
			opts = append(opts, "ro")
		}
		fs := b.filesystem("cgroup", "cgroup", opts)
		t := b.reg()
		b.call(unix.SYS_OPENAT, tmp.arg(), b.str(dir), flags(unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, "O_PATH|O_DIRECTORY|O_NOFOLLOW")).into(t)
		b.moveTo(fs.arg(), t)
		b.close(t)
		b.close(fs)
		if names := strings.Split(dir, ","); len(names) > 1 {
			for _, n := range names {
				b.call(unix.SYS_SYMLINKAT, b.str(dir), tmp.arg(), b.str(n))
			}
		}
	}
	if o.Set&unix.MOUNT_ATTR_RDONLY != 0 {
		b.setattr(tmp.arg(), unix.MOUNT_ATTR_RDONLY, false)
	}
	b.close(tmp)
}

// setattr sets attributes of the mount behind a descriptor.
func (b fileSteps) setattr(fd Arg, set uint64, recursive bool) {
	at := uint64(unix.AT_EMPTY_PATH)
	text := "AT_EMPTY_PATH"
	if recursive {
		at |= unix.AT_RECURSIVE
		text += "|AT_RECURSIVE"
	}
	b.call(unix.SYS_MOUNT_SETATTR, fd, b.str(""), flags(at, text), b.words("set "+attrText(set), set, 0, 0, 0), num(32))
}
