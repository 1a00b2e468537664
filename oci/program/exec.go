package program

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Exec is what CompileExec needs.
type Exec struct {
	Process *specs.Process
	Path    string       // what is executed; "": Process.Args[0], looked for along PATH
	Linux   *specs.Linux // the container's, for its personality and memory policy; may be nil
	// UserNamespace says that the container is in a user namespace other than the launcher's: joining
	// one's own is an error (setns(2)).
	UserNamespace bool
	CgroupFiles   []string // as Container's
	CgroupDir     bool
	Seccomp       *Seccomp
	LastCap       int
	Reaper        bool // the process becomes the reaper of its descendants
	TTY           bool // the slots for standard input and output are a terminal, which becomes the session's
}

// CompileExec compiles the program that runs one more process in a container: into all namespaces of
// its first process at once, then a second process as a child of the launcher.
//
// Slots: "process" (a pidfd of the container's first process), "stdin", "stdout", "stderr", and those for cgroups.
func CompileExec(in Exec) (*Program, error) {
	b := newCompiler()
	p := in.Process
	if p == nil || len(p.Args) == 0 {
		b.fail("compile exec: no command")
		return b.program()
	}
	b.hide()
	affinity := specs.CPUAffinity{}
	if p.ExecCPUAffinity != nil {
		affinity = *p.ExecCPUAffinity
	}
	// On v2 the process is born in its cgroup, whose processors these may not be: it never runs elsewhere.
	b.affinity("initial", affinity.Initial, unix.EINVAL)
	b.joinCgroups(in.CgroupFiles, in.CgroupDir)
	b.affinity("final", affinity.Final)
	b.oomScore(p)
	proc := b.openProc(p)
	m := membership{joined: map[specs.LinuxNamespaceType]bool{specs.UserNamespace: in.UserNamespace}}
	all := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP)
	if in.UserNamespace {
		all |= unix.CLONE_NEWUSER
	}
	if in.Linux != nil && slices.ContainsFunc(in.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.TimeNamespace }) {
		all |= unix.CLONE_NEWTIME
	}
	b.labelf("join the container's namespaces")
	b.call(unix.SYS_SETNS, b.fd("process"), flags(all, cloneText(all)))
	b.second(0)
	b.session(m)
	if in.Reaper {
		b.labelf("become the parent of what its descendants leave")
		b.call(unix.SYS_PRCTL, flags(unix.PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER"), num(1), num(0), num(0), num(0))
	}
	b.process(p, process{path: in.Path, linux: in.Linux, seccomp: in.Seccomp, lastCap: in.LastCap, tty: in.TTY, hostProc: proc})
	return b.program()
}
