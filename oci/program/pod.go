package program

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Pod is what CompilePod needs.
type Pod struct {
	// Namespaces are the kinds that the pod gets new: of network, ipc, uts, user.
	Namespaces     []specs.LinuxNamespaceType
	Hostname       string            // of a new uts namespace; empty: as the host
	Sysctls        map[string]string // with dots or slashes; of the new namespaces
	UIDMap, GIDMap string            // of a new user namespace, in /proc/PID/uid_map's form
}

// CompilePod compiles the program that makes a pod's namespaces and sends their descriptors, in the
// order of Namespaces, in one message over slot "socket"; then its process ends, and the descriptors
// are all that holds them.
func CompilePod(in Pod) (*Program, error) {
	b := newCompiler()
	var listed []specs.LinuxNamespace
	for _, k := range in.Namespaces {
		switch k {
		case specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.UserNamespace:
			listed = append(listed, specs.LinuxNamespace{Type: k})
		default:
			b.fail("pod namespace %s: not one that lives without a process", k)
		}
	}
	b.hide()
	m := b.membership(listed, nil)
	b.p.Clone.Flags = m.fresh
	if m.inUserNamespace() {
		b.p.Clone.UIDMap, b.p.Clone.GIDMap = in.UIDMap, in.GIDMap
		// Its root makes the others: whoever makes an IPC namespace owns its mqueue file system.
		b.p.Clone.Flags = unix.CLONE_NEWUSER
		b.becomeRoot()
		if rest := m.fresh &^ unix.CLONE_NEWUSER; rest != 0 {
			b.labelf("make the other namespaces")
			b.call(unix.SYS_UNSHARE, flags(rest, cloneText(rest)))
		}
	}
	if m.fresh&unix.CLONE_NEWUTS != 0 {
		b.hostnames(in.Hostname, "")
	}
	for _, key := range sorted(in.Sysctls) {
		b.hostSysctl(key, in.Sysctls[key])
	}
	if len(in.Namespaces) > 0 {
		b.sendNamespaces(in.Namespaces)
	}
	return b.program()
}

func (b namespaceSteps) hostnames(host, domain string) {
	if host != "" {
		b.labelf("set the hostname to %s", host)
		b.call(unix.SYS_SETHOSTNAME, b.str(host), num(int64(len(host))))
	}
	if domain != "" {
		b.labelf("set the domain name to %s", domain)
		b.call(unix.SYS_SETDOMAINNAME, b.str(domain), num(int64(len(domain))))
	}
}

// hostSysctl writes a sysctl of the process's own namespaces through the host's /proc: which network,
// ipc or uts namespace a file of /proc/sys means is decided by who opens it.
func (b maskSteps) hostSysctl(key, value string) {
	b.labelf("set sysctl %s", key)
	base := b.reg()
	b.call(unix.SYS_OPENAT, cwd(), b.str("/proc/sys"), flags(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, "O_PATH|O_DIRECTORY")).into(base)
	r := b.reg()
	b.open(base.arg(), sysctlPath(key), unix.O_WRONLY, 0, noLinks, "O_WRONLY").into(r)
	b.call(unix.SYS_WRITE, r.arg(), b.str(value), num(int64(len(value))))
	b.close(r)
	b.close(base)
}

// sysctlPath is a sysctl's path below /proc/sys. Names come with dots or with slashes, the first of which
// says which; the other one then is part of a name (sysctl(8)): net.ipv4.conf.eth0/1.mtu and
// net/ipv4/conf/eth0.1/mtu are the same.
func sysctlPath(key string) string {
	if at := strings.IndexAny(key, "./"); at < 0 || key[at] == '/' {
		return key
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// sendNamespaces sends the descriptors by SCM_RIGHTS (unix(7)).
func (b namespaceSteps) sendNamespaces(kinds []specs.LinuxNamespaceType) {
	m := b.message("namespaces", len(kinds))
	for i, k := range kinds {
		b.labelf("open the %s namespace", k)
		s := b.call(unix.SYS_OPENAT, cwd(), b.str("/proc/self/ns/"+namespaceFile(k)), flags(unix.O_RDONLY|unix.O_CLOEXEC, "O_RDONLY"))
		s.Store = m.fds[i] + 1
	}
	b.labelf("hand over the namespaces")
	b.send("socket", m, fmt.Sprintf("%d descriptors", len(kinds)))
}

func namespaceFile(kind specs.LinuxNamespaceType) string {
	for _, n := range namespaces {
		if n.kind == kind {
			return n.file
		}
	}
	return string(kind)
}

// Pause is what CompilePause needs.
type Pause struct {
	Join        []specs.LinuxNamespaceType // the pod's namespaces, in slots named by NamespaceSlot
	CgroupFiles []string                   // as Container's
	CgroupDir   bool
	LastCap     int
	// User is whose ids the process has, for it needs nobody's: a number that the pod's user namespace maps.
	User uint32
}

// CompilePause compiles the program that makes PID 1 of a pod whose containers share their PID
// namespace: slot "binary" executed with the argument "pause" over an empty read-only root, without
// any privilege. Slots also "stdin", "stdout", "stderr".
func CompilePause(in Pause) (*Program, error) {
	b := newCompiler()
	b.hide()
	b.joinCgroups(in.CgroupFiles, in.CgroupDir)
	m := b.membership([]specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}}, in.Join)
	b.enter(m, nil)
	b.session(m)
	b.labelf("make an empty root")
	root := b.filesystem("tmpfs", "tmpfs", []string{"ro", "nosuid", "nodev", "noexec", "nr_inodes=1", "size=4k"})
	b.pivotTo(root.arg())
	user := specs.User{UID: in.User, GID: in.User}
	b.process(&specs.Process{Args: []string{"pause", "pause"}, Cwd: "/", User: user, NoNewPrivileges: true},
		process{lastCap: in.LastCap, binary: true})
	return b.program()
}
