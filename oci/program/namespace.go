package program

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// namespaces lists the kinds in the order in which a process must join them: the user namespace first,
// since it gives the right to join those that it owns; the mount namespace last, since it takes the
// view of the host away (setns(2)).
var namespaces = []struct {
	kind specs.LinuxNamespaceType
	flag uint64
	text string
	file string // below /proc/self/ns
}{
	{specs.UserNamespace, unix.CLONE_NEWUSER, "user", "user"},
	{specs.CgroupNamespace, unix.CLONE_NEWCGROUP, "cgroup", "cgroup"},
	{specs.IPCNamespace, unix.CLONE_NEWIPC, "ipc", "ipc"},
	{specs.UTSNamespace, unix.CLONE_NEWUTS, "uts", "uts"},
	{specs.NetworkNamespace, unix.CLONE_NEWNET, "net", "net"},
	{specs.PIDNamespace, unix.CLONE_NEWPID, "pid", "pid"},
	{specs.TimeNamespace, unix.CLONE_NEWTIME, "time", "time"},
	{specs.MountNamespace, unix.CLONE_NEWNS, "mount", "mnt"},
}

// NamespaceSlot is the name of the slot that takes the descriptor of a namespace to join.
func NamespaceSlot(kind specs.LinuxNamespaceType) string { return "namespace " + string(kind) }

// membership is which namespaces a process gets new, and which it joins by descriptor.
type membership struct {
	fresh  uint64
	joined map[specs.LinuxNamespaceType]bool
}

func (b namespaceSteps) membership(listed []specs.LinuxNamespace, join []specs.LinuxNamespaceType) membership {
	m := membership{joined: map[specs.LinuxNamespaceType]bool{}}
	for _, k := range join {
		m.joined[k] = true
	}
	for _, l := range listed {
		if m.joined[l.Type] {
			continue
		}
		known := false
		for _, n := range namespaces {
			if n.kind == l.Type {
				m.fresh |= n.flag
				known = true
			}
		}
		if !known || l.Path != "" {
			b.fail("namespace %s: neither new nor given as a descriptor", l.Type)
		}
	}
	return m
}

// enter joins the namespaces of m that are given by descriptor. Where a PID or user namespace is among
// them, which hold for children only or need a process that is born into them, a second process is
// made, with the fresh namespaces; it is the launcher's own child (CLONE_PARENT), so that the
// launcher reaps it. So it is with a new time namespace, whose offsets can be set only until a process
// is in it (time_namespaces(7)).
func (b namespaceSteps) enter(m membership, offsets map[string]specs.LinuxTimeOffset) {
	newTime := m.fresh&unix.CLONE_NEWTIME != 0
	twice := m.joined[specs.PIDNamespace] || m.joined[specs.UserNamespace] || newTime
	for _, n := range namespaces {
		if m.joined[n.kind] {
			b.labelf("join the %s namespace", n.text)
			b.call(unix.SYS_SETNS, b.fd(NamespaceSlot(n.kind)), flags(n.flag, "new "+n.text))
		}
	}
	// The cgroup namespace's root is the cgroup that the process is in when it unshares: on v1 that is
	// only after the cgroup.procs writes, and copy_process looks before CLONE_INTO_CGROUP takes effect.
	cloned := m.fresh &^ (unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME)
	if newTime {
		b.timeOffsets(offsets)
	} else if len(offsets) > 0 {
		b.fail("time offsets: they need a new time namespace")
	}
	if twice {
		b.second(cloned)
	} else {
		b.p.Clone.Flags = cloned
	}
	if m.fresh&unix.CLONE_NEWCGROUP != 0 {
		b.labelf("make the cgroup namespace")
		b.call(unix.SYS_UNSHARE, flags(unix.CLONE_NEWCGROUP, "new cgroup"))
	}
}

// timeOffsets makes a time namespace for the process to come, and sets its clocks.
func (b namespaceSteps) timeOffsets(offsets map[string]specs.LinuxTimeOffset) {
	b.labelf("make the time namespace")
	b.call(unix.SYS_UNSHARE, flags(unix.CLONE_NEWTIME, "new time"))
	for _, clock := range sorted(offsets) {
		o := offsets[clock]
		if clock != "monotonic" && clock != "boottime" {
			b.fail("time offset of clock %q: only monotonic and boottime have one", clock)
		}
		if o.Nanosecs >= 1e9 {
			b.fail("time offset of clock %s: %d nanoseconds are a second or more", clock, o.Nanosecs)
		}
		b.labelf("set the %s clock off by %d s and %d ns", clock, o.Secs, o.Nanosecs)
		b.writeFile(cwd(), "/proc/self/timens_offsets", fmt.Sprintf("%s %d %d", clock, o.Secs, o.Nanosecs))
	}
}

// second goes on in a new process with these fresh namespaces.
func (b namespaceSteps) second(fresh uint64) {
	b.labelf("make the process inside the joined namespaces")
	r := b.reg()
	args := make([]uint64, 11) // struct clone_args
	args[0] = fresh | unix.CLONE_PARENT
	b.call(unix.SYS_CLONE3, b.words(cloneText(fresh)+", CLONE_PARENT", args...), num(88)).into(r)
	b.call(CallAdopt, r.arg())
}

// inUserNamespace reports whether the process joins a user namespace that is not the launcher's.
func (m membership) inUserNamespace() bool {
	return m.fresh&unix.CLONE_NEWUSER != 0 || m.joined[specs.UserNamespace]
}

// mapIDs gives a new user namespace its mapping, which the launcher writes.
func (b namespaceSteps) mapIDs(m membership, linux *specs.Linux) {
	if m.fresh&unix.CLONE_NEWUSER == 0 {
		return
	}
	if len(m.joined) > 0 {
		b.fail("a new user namespace and joined ones: a process can't own the namespaces that it joins")
	}
	if m.fresh&unix.CLONE_NEWTIME != 0 {
		b.fail("a new user namespace and a new time namespace: make the first before, and join it")
	}
	b.p.Clone.UIDMap, b.p.Clone.GIDMap = IDMap(linux.UIDMappings), IDMap(linux.GIDMappings)
}

// IDMap is the text of /proc/PID/uid_map (user_namespaces(7)).
func IDMap(ms []specs.LinuxIDMapping) string {
	var w strings.Builder
	for _, m := range ms {
		fmt.Fprintf(&w, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return w.String()
}
