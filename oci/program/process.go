package program

import (
	"encoding/binary"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// process is what the last part of a program needs beside the Process itself.
type process struct {
	linux    *specs.Linux // personality and memory policy; nil: neither
	seccomp  *Seccomp
	lastCap  int
	terminal Reg    // an open terminal for standard input and output; 0: the slots
	tty      bool   // the slots are a terminal, which becomes the session's
	hostProc Reg    // the host's /proc, opened before the root changed; 0: not needed
	makeCwd  bool   // make a working directory that is missing
	binary   bool   // execute slot "binary" instead of args[0]
	path     string // execute this instead of args[0]
}

// process turns the current process into the one that the user asked for: limits, working directory,
// descriptors, credentials, seccomp, and execve at the end.
func (b processSteps) process(p *specs.Process, in process) {
	b.limits(p)
	b.scheduling(p, in.linux)
	b.workingDir(p.Cwd, in.makeCwd)
	b.stdio(p, in)
	b.labelf("set the umask")
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	b.call(unix.SYS_UMASK, flags(uint64(umask), "0"+strconv.FormatUint(uint64(umask), 8)))
	b.securityLabels(p, in.hostProc)
	b.credentials(p, in)
	b.execute(p, in)
}

func (b processSteps) limits(p *specs.Process) {
	for _, l := range p.Rlimits {
		b.labelf("limit %s", l.Type)
		res, ok := rlimits[l.Type]
		if !ok {
			b.fail("rlimit %q: unknown type", l.Type)
		}
		b.call(unix.SYS_PRLIMIT64, num(0), flags(uint64(res), l.Type),
			b.words(strconv.FormatUint(l.Soft, 10)+":"+strconv.FormatUint(l.Hard, 10), l.Soft, l.Hard), num(0))
	}
}

// Rlimit finds a resource by its OCI name ("RLIMIT_NOFILE").
func Rlimit(name string) (resource int, ok bool) {
	resource, ok = rlimits[name]
	return resource, ok
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func (b processSteps) workingDir(cwdPath string, makeIt bool) {
	b.labelf("enter the working directory %s", cwdPath)
	if !path.IsAbs(cwdPath) {
		b.fail("working directory %q: not absolute", cwdPath)
		return
	}
	var r Reg
	if makeIt {
		r = b.openDir(cwdPath, inRoot)
	} else {
		r = b.reg()
		b.open(cwd(), cwdPath, unix.O_PATH|unix.O_DIRECTORY, 0, inRoot, "O_PATH|O_DIRECTORY").into(r)
	}
	b.call(unix.SYS_FCHDIR, r.arg())
	b.close(r)
}

// stdio puts the descriptors 0 to 2 in place and marks all others close-on-exec. Pipes are given to the
// user, so that it can open /dev/stdout again; a terminal becomes the session's.
func (b processSteps) stdio(p *specs.Process, in process) {
	b.labelf("set up standard input and output")
	for i, n := range []string{"stdin", "stdout", "stderr"} {
		from := in.terminal.arg()
		if in.terminal == 0 {
			from = b.fd(n)
		}
		b.call(unix.SYS_DUP3, from, num(int64(i)), num(0))
	}
	if in.terminal != 0 || in.tty {
		b.call(unix.SYS_IOCTL, num(0), flags(unix.TIOCSCTTY, "TIOCSCTTY"), num(0))
		b.call(unix.SYS_FCHOWN, num(0), num(int64(p.User.UID)), num(-1)).fine(unix.EPERM, unix.EINVAL)
	} else if p.User.UID != 0 {
		for fd := int64(1); fd <= 2; fd++ {
			b.call(unix.SYS_FCHOWN, num(fd), num(int64(p.User.UID)), num(-1)).fine(unix.EPERM, unix.EINVAL, unix.EROFS)
		}
	}
	b.call(unix.SYS_CLOSE_RANGE, num(3), flags(1<<32-1, "~0"), flags(unix.CLOSE_RANGE_CLOEXEC, "CLOEXEC"))
}

// oomScore sets oom_score_adj, before the process enters anything: children inherit it, and in a user
// namespace a process that hides itself may not. Lowering it needs CAP_SYS_RESOURCE, which package oci
// sees to.
func (b processSteps) oomScore(p *specs.Process) {
	if p.OOMScoreAdj == nil {
		return
	}
	b.labelf("set oom_score_adj to %d", *p.OOMScoreAdj)
	b.writeFile(cwd(), "/proc/self/oom_score_adj", strconv.Itoa(*p.OOMScoreAdj))
}

// openProc opens the host's /proc while it can be named. "thread-self" below it means the process that
// asks, whatever namespaces it is in by then.
func (b fileSteps) openProc(p *specs.Process) Reg {
	if p.ApparmorProfile == "" && p.SelinuxLabel == "" {
		return 0
	}
	b.labelf("open the host's /proc")
	r := b.reg()
	b.call(unix.SYS_OPENAT, cwd(), b.str("/proc"), flags(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, "O_PATH|O_DIRECTORY")).into(r)
	return r
}

func (b fileSteps) writeFile(dir Arg, name, value string) {
	r := b.reg()
	b.call(unix.SYS_OPENAT, dir, b.str(name), flags(unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY")).into(r)
	b.call(unix.SYS_WRITE, r.arg(), b.str(value), num(int64(len(value))))
	b.close(r)
}

// securityLabels names the AppArmor profile and the SELinux label that the next execve takes on, through
// the host's own /proc (CVE-2025-52881).
func (b processSteps) securityLabels(p *specs.Process, hostProc Reg) {
	if p.ApparmorProfile != "" {
		b.labelf("take AppArmor profile %s", p.ApparmorProfile)
		value := "exec " + p.ApparmorProfile
		r := b.reg()
		// A directory of AppArmor's own, so that others can stand beside it (Linux 5.8).
		b.call(unix.SYS_OPENAT, hostProc.arg(), b.str("thread-self/attr/apparmor/exec"), flags(unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY")).into(r).fine(unix.ENOENT)
		own := b.last()
		b.call(unix.SYS_OPENAT, hostProc.arg(), b.str("thread-self/attr/exec"), flags(unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY")).into(r)
		b.okHere(own)
		b.call(unix.SYS_WRITE, r.arg(), b.str(value), num(int64(len(value))))
		b.close(r)
	}
	if p.SelinuxLabel != "" {
		b.labelf("take SELinux label %s", p.SelinuxLabel)
		b.writeFile(hostProc.arg(), "thread-self/attr/exec", p.SelinuxLabel)
	}
}

// credentials drops to the user's ids and capabilities and installs the seccomp filter, as late as it
// can be: without no_new_privs that needs CAP_SYS_ADMIN (seccomp(2)), which is kept just so long, so
// that the filter need only allow capset, prctl and execve; with no_new_privs it comes last.
func (b processSteps) credentials(p *specs.Process, in process) {
	caps := b.capabilities(p.Capabilities)
	for c := 0; c <= in.lastCap; c++ {
		if caps.bounding&(1<<c) == 0 {
			b.labelf("drop capabilities from the bounding set")
			b.call(unix.SYS_PRCTL, flags(unix.PR_CAPBSET_DROP, "PR_CAPBSET_DROP"), num(int64(c)))
		}
	}
	b.labelf("become user %d, group %d", p.User.UID, p.User.GID)
	b.call(unix.SYS_PRCTL, flags(unix.PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"), num(1))
	groups := make([]byte, 0, 4*len(p.User.AdditionalGids))
	for _, g := range p.User.AdditionalGids {
		groups = binary.LittleEndian.AppendUint32(groups, g)
	}
	b.call(unix.SYS_SETGROUPS, num(int64(len(p.User.AdditionalGids))), data(b.constant(string(groups)+"\x00", 4), numbers(p.User.AdditionalGids)))
	gid, uid := num(int64(p.User.GID)), num(int64(p.User.UID))
	b.call(unix.SYS_SETRESGID, gid, gid, gid)
	b.call(unix.SYS_SETRESUID, uid, uid, uid)
	b.call(unix.SYS_PRCTL, flags(unix.PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"), num(0))
	if in.seccomp != nil && !p.NoNewPrivileges {
		b.labelf("keep CAP_SYS_ADMIN for the seccomp filter")
		const admin = 1 << unix.CAP_SYS_ADMIN
		b.capset(capSets{effective: caps.effective | admin, permitted: caps.permitted | admin, inheritable: caps.inheritable})
		b.filter(in.seccomp)
	}
	b.labelf("set capabilities")
	b.capset(caps)
	b.call(unix.SYS_PRCTL, flags(unix.PR_CAP_AMBIENT, "PR_CAP_AMBIENT"), flags(unix.PR_CAP_AMBIENT_CLEAR_ALL, "CLEAR_ALL"), num(0), num(0), num(0))
	for c := range 64 {
		if caps.ambient&(1<<c) != 0 {
			b.call(unix.SYS_PRCTL, flags(unix.PR_CAP_AMBIENT, "PR_CAP_AMBIENT"), flags(unix.PR_CAP_AMBIENT_RAISE, "RAISE"), num(int64(c)), num(0), num(0))
		}
	}
	if p.NoNewPrivileges {
		b.labelf("set no_new_privs")
		b.call(unix.SYS_PRCTL, flags(unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"), num(1), num(0), num(0), num(0))
		if in.seccomp != nil {
			b.filter(in.seccomp)
		}
	}
}

func numbers(ns []uint32) string {
	var out []string
	for _, n := range ns {
		out = append(out, strconv.FormatUint(uint64(n), 10))
	}
	return "[" + strings.Join(out, " ") + "]"
}

func (b processSteps) filter(s *Seccomp) {
	b.labelf("install the seccomp filter")
	if len(s.Filter) == 0 || len(s.Filter) > unix.BPF_MAXINSNS {
		b.fail("seccomp filter: %d instructions, the kernel takes 1 to %d", len(s.Filter), unix.BPF_MAXINSNS)
		return
	}
	code := b.alloc(8)
	b.p.Data = slices.Grow(b.p.Data, 8*len(s.Filter))
	for _, f := range s.Filter {
		b.p.Data = binary.LittleEndian.AppendUint16(b.p.Data, f.Code)
		b.p.Data = append(b.p.Data, f.Jt, f.Jf)
		b.p.Data = binary.LittleEndian.AppendUint32(b.p.Data, f.K)
	}
	prog := b.memory(16) // struct sock_fprog
	binary.LittleEndian.PutUint16(b.p.Data[prog:], uint16(len(s.Filter)))
	b.pointer(prog+8, code)
	mode, text := flags(unix.SECCOMP_SET_MODE_FILTER, "SET_MODE_FILTER"), data(prog, strconv.Itoa(len(s.Filter))+" instructions")
	if !s.Notify {
		b.call(unix.SYS_SECCOMP, mode, num(int64(s.Flags)), text)
		return
	}
	m := b.message(SayListener, 1)
	b.call(unix.SYS_SECCOMP, mode, flags(s.Flags|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, "NEW_LISTENER"), text).Store = m.fds[0] + 1
	b.labelf("hand over the seccomp listener")
	b.send(GateSlot, m, "the listener")
}

// execute ends the program in execve. A command without a slash is looked for along PATH, inside the
// container, as execvp(3) does: a name that is missing in one directory is looked for in the next, one
// that may not be executed too, and is only reported when no other is found.
func (b processSteps) execute(p *specs.Process, in process) {
	name := p.Args[0]
	if in.path != "" {
		name = in.path
	}
	b.labelf("execute %q", name)
	argv := b.vector(strconv.Itoa(len(p.Args))+" arguments", p.Args)
	env := b.vector(strconv.Itoa(len(p.Env))+" variables", p.Env)
	if in.binary {
		b.call(unix.SYS_EXECVEAT, b.fd("binary"), b.str(""), argv, env, flags(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"))
		return
	}
	if strings.Contains(name, "/") {
		b.call(unix.SYS_EXECVE, b.str(name), argv, env)
		return
	}
	dirs := searchPath(p.Env)
	for _, dir := range dirs {
		b.call(unix.SYS_EXECVE, b.str(path.Join(dir, name)), argv, env).fine(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	}
	for _, dir := range dirs {
		b.labelf("execute %q as %s", name, path.Join(dir, name))
		b.call(unix.SYS_EXECVE, b.str(path.Join(dir, name)), argv, env).fine(unix.ENOENT, unix.ENOTDIR)
	}
	b.labelf("find executable %q in $PATH", name)
	b.call(CallFail, flags(uint64(unix.ENOENT), "ENOENT"))
}

// searchPath is the last PATH of the environment; an empty part is the working directory.
func searchPath(env []string) []string {
	value := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			value = v
		}
	}
	dirs := strings.Split(value, ":")
	for i, d := range dirs {
		if d == "" {
			dirs[i] = "."
		}
	}
	return dirs
}
