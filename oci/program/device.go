package program

import (
	"fmt"
	"path"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// DeviceSlot is the name of the slot for a device that is mounted, because a user namespace can't make
// device nodes and it is not below /dev: a detached mount of a node.
func DeviceSlot(name string) string { return "device " + name }

// defaultDevices is what every container has (runtime-spec config-linux.md, "Default Devices").
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// Devices is the spec's devices and the default ones, each path once, clean; the spec's win. Those where a
// volume is mounted are left out.
func Devices(spec *specs.Spec) []specs.LinuxDevice {
	seen := map[string]bool{}
	for _, m := range spec.Mounts {
		seen[path.Clean(m.Destination)] = true
	}
	var out []specs.LinuxDevice
	add := func(d specs.LinuxDevice) {
		d.Path = path.Clean(d.Path)
		if !seen[d.Path] {
			seen[d.Path] = true
			out = append(out, d)
		}
	}
	for _, d := range spec.Linux.Devices {
		add(d)
	}
	for _, d := range defaultDevices {
		add(d)
	}
	return out
}

// devices makes the device nodes; where they are made already, it mounts those that are not below /dev. dev
// is the file system on /dev, 0 when it has none of its own.
func (b deviceSteps) devices(list []specs.LinuxDevice, made bool, dev Reg) {
	dirs := map[string]Reg{}
	if dev != 0 {
		dirs["/dev"] = dev
	}
	for _, d := range list {
		b.labelf("make device %s", d.Path)
		if made {
			if !under(d.Path, "/dev") {
				b.attach(b.fd(DeviceSlot(d.Path)), d.Path, false)
			}
			continue
		}
		dir := path.Dir(d.Path)
		parent, ok := dirs[dir]
		if !ok {
			parent = b.openDir(dir, resolveFor(d.Path))
			dirs[dir] = parent
		}
		b.device(parent, d)
	}
	for _, dir := range sorted(dirs) {
		if dirs[dir] != dev {
			b.close(dirs[dir])
		}
	}
}

// Node is the mode and number that mknod(2) wants for a device.
func Node(d specs.LinuxDevice) (mode uint32, dev uint64, err error) {
	kinds := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
	kind, ok := kinds[d.Type]
	if !ok || d.Path == "/" {
		return 0, 0, fmt.Errorf("device %s: type %q is none of c, u, b, p", d.Path, d.Type)
	}
	mode = 0o666
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	return kind | mode, unix.Mkdev(uint32(d.Major), uint32(d.Minor)), nil
}

func (b deviceSteps) device(parent Reg, d specs.LinuxDevice) {
	full, dev, err := Node(d)
	if err != nil {
		b.fail("%w", err)
	}
	name := b.str(path.Base(d.Path))
	b.call(unix.SYS_MKNODAT, parent.arg(), name, flags(uint64(full), d.Type+" 0"+strconv.FormatUint(uint64(full&0o777), 8)),
		flags(dev, strconv.FormatInt(d.Major, 10)+":"+strconv.FormatInt(d.Minor, 10)))
	if d.UID != nil || d.GID != nil {
		uid, gid := uint32(0), uint32(0)
		if d.UID != nil {
			uid = *d.UID
		}
		if d.GID != nil {
			gid = *d.GID
		}
		b.call(unix.SYS_FCHOWNAT, parent.arg(), name, num(int64(uid)), num(int64(gid)), flags(unix.AT_SYMLINK_NOFOLLOW, "NOFOLLOW"))
	}
}

// deviceLinks makes the links that programs expect in /dev.
func (b deviceSteps) deviceLinks(taken map[string]bool, dev Reg) {
	if !taken["/dev"] {
		return // the image's own /dev: not ours to change
	}
	b.labelf("make the links of /dev")
	if dev == 0 {
		dev = b.openDir("/dev", inRoot)
		defer func() { b.close(dev) }()
	}
	for _, l := range [][2]string{
		{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"}, {"core", "/proc/kcore"},
	} {
		if !taken["/dev/"+l[0]] {
			b.call(unix.SYS_SYMLINKAT, b.str(l[1]), dev.arg(), b.str(l[0])).fine(unix.EEXIST)
		}
	}
}

// console opens the container's terminal, the first of its own devpts, and mounts it on /dev/console too.
// Both go through the mount that this program attached itself, so that no name in the image can be in
// its place (CVE-2025-52565); the register, which the caller closes, is what ttyname(3) finds in /dev/pts.
func (b deviceSteps) console() Reg {
	b.labelf("open the terminal")
	pts := b.reg()
	b.open(b.fd(rootSlot), "/dev/pts/0", unix.O_RDWR|unix.O_NOCTTY, 0, noLinks, "O_RDWR|O_NOCTTY").into(pts)
	b.labelf("mount the terminal on /dev/console")
	tree := b.reg()
	b.call(unix.SYS_OPEN_TREE, pts.arg(), b.str(""), flags(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH, "CLONE|EMPTY_PATH")).into(tree)
	b.attach(tree.arg(), "/dev/console", false)
	b.close(tree)
	return pts
}
