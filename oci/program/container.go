package program

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Container is what CompileContainer needs: a Spec, and what package oci found out about the node and
// the sources of the mounts.
type Container struct {
	Spec *specs.Spec
	// Sources says for each of Spec.Mounts where it comes from; same length and order.
	Sources []Source
	// Join lists the namespaces that come as descriptors, in slots named by NamespaceSlot. Others of
	// Spec.Linux.Namespaces are new.
	Join []specs.LinuxNamespaceType
	// CgroupFiles are the tasks files that the process writes itself into: one slot each, "cgroup
	// NAME". CgroupDir says that slot "cgroup" holds the v2 directory to be cloned into.
	CgroupFiles []string
	CgroupDir   bool
	// CgroupV1 names the hierarchies that a mount of type cgroup shows ("memory", "cpu,cpuacct",
	// "name=systemd"); empty where the node has v2.
	CgroupV1 []string
	Seccomp  *Seccomp
	LastCap  int // the kernel's last capability (/proc/sys/kernel/cap_last_cap)
	// DevicesMade says that the mount on /dev, which the caller brings, has the device nodes in it: a user
	// namespace can't make them. Devices elsewhere then come in slots named by DeviceSlot.
	DevicesMade bool
	// RootAt is a directory of the host where the root is mounted for the hooks before pivot_root. It is
	// needed when there are any; Spec.Hooks says which gates the program stops at (GateCreate, GateStart).
	RootAt string
	// Terminal makes number 0 of the mounted devpts, whose master the caller holds, the process's
	// terminal.
	Terminal bool
	// TTY says that the slots for standard input and output are a terminal, which becomes the session's;
	// not with Terminal.
	TTY bool
}

// Source is where a mount comes from: a detached mount that the caller brings, in the slot that
// SourceSlot names (Slot), or a kernel file system that the child makes.
type Source struct {
	Slot bool
	Dir  bool // what is mounted is a directory; true for file systems
	// At is where the mountpoint is to be made, when it is missing and its destination has a symlink that
	// leads to nothing: where that leads. "": the destination.
	At string
}

// SourceSlot is the name of the slot of the detached mount for a destination.
func SourceSlot(m specs.Mount) string { return "mount " + m.Destination }

// Seccomp is a compiled filter.
type Seccomp struct {
	Filter []unix.SockFilter
	Flags  uint64 // SECCOMP_FILTER_FLAG_*
	// Notify says that some calls are referred to a listener, whose descriptor goes out through slot "gate".
	Notify bool
}

// CompileContainer compiles the program that turns a forked child into the container's first process.
//
// Slots: "root" (detached mount of the root file system), "stdin", "stdout", "stderr" (not
// with Terminal),
// and those that in's fields name.
func CompileContainer(in Container) (*Program, error) {
	b := newCompiler()
	in.Spec = in.withCgroupType()
	spec := in.Spec
	if spec.Process == nil || spec.Linux == nil || len(spec.Process.Args) == 0 {
		b.fail("compile container: the spec has no process, arguments or linux section")
		return b.program()
	}
	b.hide()
	b.joinCgroups(in.CgroupFiles, in.CgroupDir)
	b.oomScore(spec.Process)
	proc := b.openProc(spec.Process)
	m := b.membership(spec.Linux.Namespaces, in.Join)
	if m.fresh&unix.CLONE_NEWNS == 0 {
		b.fail("compile container: it needs a mount namespace of its own")
	}
	b.mapIDs(m, spec.Linux)
	b.enter(m, spec.Linux.TimeOffsets)
	b.session(m)
	fs := b.earlyFilesystems(in)
	gateCreate, gateStart := gates(spec.Hooks)
	if gateCreate {
		b.attachRoot(in.RootAt)
	} else {
		b.pivot()
	}
	b.mounts(in, fs)
	var terminal Reg
	if in.Terminal {
		terminal = b.console()
	}
	if m.fresh&unix.CLONE_NEWUTS != 0 || m.joined[specs.UTSNamespace] {
		b.hostnames(spec.Hostname, spec.Domainname)
	}
	for _, key := range sorted(spec.Linux.Sysctl) {
		b.sysctl(fs["proc"], key, spec.Linux.Sysctl[key])
	}
	if gateCreate {
		b.gate(GateCreate)
		b.pivotInto()
	}
	b.readonlyPaths(spec.Linux.ReadonlyPaths, fs)
	b.maskedPaths(spec.Linux.MaskedPaths, fs, spec.Linux.MountLabel)
	b.rootMount(spec)
	if gateStart {
		b.gate(GateStart)
	}
	b.process(spec.Process, process{linux: spec.Linux, seccomp: in.Seccomp, lastCap: in.LastCap, terminal: terminal, tty: in.TTY, hostProc: proc, makeCwd: true})
	return b.program()
}

// withCgroupType is the spec with mounts of type cgroup as the node has them: on v2 that is what the word
// means (runtime-spec, "Default Filesystems", as all runtimes read it).
func (in Container) withCgroupType() *specs.Spec {
	if len(in.CgroupV1) > 0 {
		return in.Spec
	}
	spec := *in.Spec
	spec.Mounts = slices.Clone(spec.Mounts)
	for i := range spec.Mounts {
		if spec.Mounts[i].Type == "cgroup" {
			spec.Mounts[i].Type = "cgroup2"
		}
	}
	return &spec
}

// hide makes the process unreadable for others before it enters what others can see: it is a copy of
// the launcher until its execve, which resets this (prctl(2), PR_SET_DUMPABLE).
func (b namespaceSteps) hide() {
	b.labelf("hide the launch from other processes")
	b.call(unix.SYS_PRCTL, flags(unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"), num(0))
}

func (b namespaceSteps) joinCgroups(files []string, dir bool) {
	if dir {
		b.p.Clone.Cgroup = b.slot("cgroup")
	}
	for _, name := range files {
		b.labelf("join the cgroup of %s", name)
		b.call(unix.SYS_WRITE, b.fd("cgroup "+name), b.str("0"), num(1))
	}
}

// session gives the process a session and keyring of its own, and in a user namespace its root's ids.
func (b namespaceSteps) session(m membership) {
	if m.inUserNamespace() {
		b.becomeRoot()
	}
	b.labelf("start a session")
	b.call(unix.SYS_SETSID)
	b.labelf("start a session keyring")
	b.call(unix.SYS_KEYCTL, flags(unix.KEYCTL_JOIN_SESSION_KEYRING, "JOIN_SESSION_KEYRING"), num(0)).
		fine(unix.ENOSYS, unix.EDQUOT, unix.EPERM, unix.EACCES)
}

// becomeRoot takes the ids of a user namespace's root; capabilities come with the namespace.
func (b namespaceSteps) becomeRoot() {
	b.labelf("become the user namespace's root")
	b.call(unix.SYS_SETRESGID, num(0), num(0), num(0))
	b.call(unix.SYS_SETRESUID, num(0), num(0), num(0))
}

// earlyFilesystems makes the file systems of Spec.Mounts that need the host's root still visible. The
// first of each type is returned by its type.
func (b filesystemSteps) earlyFilesystems(in Container) map[string]Reg {
	fs := map[string]Reg{}
	for i, m := range in.Spec.Mounts {
		if in.Sources[i].Slot || !early(m.Type) {
			continue
		}
		if _, twice := fs[m.Type]; twice {
			continue // made when it is mounted
		}
		b.labelf("mount %s on %s", m.Type, m.Destination)
		fs[m.Type] = b.filesystem(m.Type, m.Source, m.Options)
	}
	return fs
}

// mounts mounts Spec.Mounts, and fills /dev. What is mounted on or below /proc and /sys comes last, each
// group in the spec's order: where the image has a symlink to one of them, a volume on it is then
// covered by proc or sysfs, and not the other way round (CVE-2019-16884, CVE-2023-27561).
func (b mountSteps) mounts(in Container, fs map[string]Reg) {
	attached := map[string]bool{}
	var last []int
	for i, mt := range in.Spec.Mounts {
		if resolveFor(mt.Destination) == noLinks {
			last = append(last, i)
			continue
		}
		b.mount(in, i, fs, attached)
	}
	for _, i := range last {
		b.mount(in, i, fs, attached)
	}
	taken := map[string]bool{}
	devIsBind := false
	for i, mt := range in.Spec.Mounts {
		taken[path.Clean(mt.Destination)] = true
		devIsBind = devIsBind || in.Sources[i].Slot && path.Clean(mt.Destination) == "/dev" && !in.DevicesMade
	}
	if !devIsBind {
		b.devices(Devices(in.Spec), in.DevicesMade, fs[devices])
		b.deviceLinks(taken, fs[devices])
	}
}

// mount attaches one of Spec.Mounts. attached says which of the early file systems have been.
func (b mountSteps) mount(in Container, i int, fs map[string]Reg, attached map[string]bool) {
	mt := in.Spec.Mounts[i]
	b.labelf("mount %s on %s", mountName(mt), mt.Destination)
	if !path.IsAbs(mt.Destination) {
		b.fail("mount destination %q is not absolute", mt.Destination)
	}
	switch {
	case in.Sources[i].Slot:
		if err := checkProc(mt); err != nil {
			b.fail("%w", err)
		}
		dest := mt.Destination
		if at := in.Sources[i].At; at != "" && resolveFor(dest) == inRoot && resolveFor(at) == inRoot {
			dest = at
		}
		b.attach(b.fd(SourceSlot(mt)), dest, in.Sources[i].Dir)
		if in.DevicesMade && path.Clean(mt.Destination) == "/dev" && fs[devices] == 0 {
			fs[devices] = b.reg()
			b.open(b.fd(SourceSlot(mt)), ".", unix.O_PATH|unix.O_DIRECTORY, 0, noLinks, "O_PATH|O_DIRECTORY").into(fs[devices])
		}
	case mt.Type == "cgroup" && len(in.CgroupV1) > 0:
		b.cgroupV1(mt, in.CgroupV1, in.Spec.Linux.MountLabel)
	case early(mt.Type) && !attached[mt.Type]:
		attached[mt.Type] = true
		b.attach(fs[mt.Type].arg(), mt.Destination, true)
	default:
		r := b.filesystem(strings.TrimSuffix(mt.Type, " (v2)"), mt.Source, mt.Options)
		if mt.Type == "mqueue" && in.Spec.Linux.MountLabel != "" {
			b.labelRoot(r, in.Spec.Linux.MountLabel)
		}
		b.attach(r.arg(), mt.Destination, true)
		if path.Clean(mt.Destination) == "/dev" && fs[devices] == 0 {
			fs[devices] = r
			return
		}
		b.close(r)
	}
}

// devices is the key in the table of file systems of the one that is mounted on /dev, if the program makes
// it: what is in there is made and opened through it, wherever a link in the image has put it.
const devices = "devices"

// mountName is what a person calls the source of a mount.
func mountName(m specs.Mount) string {
	if m.Type == "" || m.Type == "bind" || m.Type == "none" {
		if m.Source != "" {
			return m.Source
		}
		return "volume"
	}
	return m.Type
}

// rootMount gives the root its propagation and makes it read-only where the spec says so.
func (b mountSteps) rootMount(spec *specs.Spec) {
	if p := spec.Linux.RootfsPropagation; p != "" {
		o, err := ParseMountOptions([]string{p})
		if err != nil || o.Propagation == 0 {
			b.fail("root propagation %q: not one of shared, slave, private, unbindable with or without r", p)
		}
		f, text := o.Propagation, strings.ToUpper(p)
		if o.RecursivePropagation {
			f |= unix.MS_REC
		}
		b.labelf("make the root %s", p)
		b.call(unix.SYS_MOUNT, num(0), b.str("/"), num(0), flags(f, text))
	}
	if spec.Root != nil && spec.Root.Readonly {
		b.labelf("make the root read-only")
		b.setattr(b.fd(rootSlot), unix.MOUNT_ATTR_RDONLY, false)
	}
}

// checkProc refuses volumes that would shadow the container's proc: nothing may be mounted on or below
// /proc but what emulates single files of it, as runc allows too (lxcfs).
func checkProc(m specs.Mount) error {
	d := path.Clean(m.Destination)
	if !under(d, "/proc") || m.Type == "proc" {
		return nil
	}
	for _, ok := range []string{"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps",
		"/proc/uptime", "/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled"} {
		if d == ok {
			return nil
		}
	}
	return &MountError{Destination: m.Destination, Rule: "a volume must not cover /proc"}
}

// MountError is a mount that no container gets.
type MountError struct{ Destination, Rule string }

func (e *MountError) Error() string { return "mount on " + e.Destination + ": " + e.Rule }
