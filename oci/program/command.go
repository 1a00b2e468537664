package program

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Command is what CompileCommand needs: a program of the host's, which sees mounts that nobody else does.
type Command struct {
	Args   []string // Args[0] is an absolute path
	Env    []string
	Mounts []Attach // in order
	TTY    bool     // the slots for standard input and output are a terminal, which becomes the session's
	// Extra is how many descriptors the program gets beside the standard ones, from 3 on, from the slots that ExtraSlot names.
	Extra int
	// CgroupFiles and CgroupDir are as in Container. CgroupNamespace: the program's cgroup is the root of what it sees.
	CgroupFiles                []string
	CgroupDir, CgroupNamespace bool
	OOMScore                   *int // oom_score_adj; nil: the keeper's, which the kernel spares nearly to the last
}

// ExtraSlot is the name of the slot of a descriptor beside the standard ones, counted from 0.
func ExtraSlot(i int) string { return "extra " + strconv.Itoa(i) }

// Attach is a detached mount, in the slot that AttachSlot names, for a path of the host.
type Attach struct{ Target string }

// AttachSlot is the name of the slot of the detached mount for a path of the host.
func AttachSlot(target string) string { return "mount " + target }

// CompileCommand compiles the program that executes a program of the host's in a mount namespace of its
// own: a copy of the host's that follows what is mounted there, with some mounts more that end with the
// program and with what it made from them.
//
// Slots: "stdin", "stdout", "stderr", those of Mounts and Extra, and those for cgroups.
func CompileCommand(in Command) (*Program, error) {
	b := newCompiler()
	if len(in.Args) == 0 || !strings.HasPrefix(in.Args[0], "/") {
		b.fail("compile command: %q: no absolute path to execute", in.Args)
		return b.program()
	}
	b.oomScore(&specs.Process{OOMScoreAdj: in.OOMScore})
	b.joinCgroups(in.CgroupFiles, in.CgroupDir)
	if in.CgroupNamespace {
		b.labelf("make the cgroup namespace")
		b.call(unix.SYS_UNSHARE, flags(unix.CLONE_NEWCGROUP, "new cgroup"))
	}
	if len(in.Mounts) > 0 {
		b.p.Clone.Flags = unix.CLONE_NEWNS
		b.labelf("keep mounts from the host")
		b.call(unix.SYS_MOUNT, num(0), b.str("/"), num(0), flags(unix.MS_REC|unix.MS_SLAVE, "MS_REC|MS_SLAVE"))
	}
	for _, m := range in.Mounts {
		b.labelf("mount on %s", m.Target)
		b.call(unix.SYS_MOVE_MOUNT, b.fd(AttachSlot(m.Target)), b.str(""), cwd(), b.str(m.Target), flags(unix.MOVE_MOUNT_F_EMPTY_PATH, "F_EMPTY_PATH"))
	}
	b.labelf("start a session")
	b.call(unix.SYS_SETSID)
	b.labelf("set up standard input and output")
	for i, n := range []string{"stdin", "stdout", "stderr"} {
		b.call(unix.SYS_DUP3, b.fd(n), num(int64(i)), num(0))
	}
	if in.TTY {
		b.call(unix.SYS_IOCTL, num(0), flags(unix.TIOCSCTTY, "TIOCSCTTY"), num(0))
	}
	b.extras(in.Extra)
	b.call(unix.SYS_CLOSE_RANGE, num(int64(3+in.Extra)), flags(1<<32-1, "~0"), flags(unix.CLOSE_RANGE_CLOEXEC, "CLOEXEC"))
	b.labelf("execute %s", strings.Join(in.Args, " "))
	argv := b.vector(strconv.Itoa(len(in.Args))+" arguments", in.Args)
	env := b.vector(strconv.Itoa(len(in.Env))+" variables", in.Env)
	b.call(unix.SYS_EXECVE, b.str(in.Args[0]), argv, env)
	return b.program()
}

// extras puts descriptors from 3 on: first all of them above, where none is in another's way.
func (b *compiler) extras(n int) {
	regs := make([]Reg, n)
	for i := range regs {
		regs[i] = b.reg()
		b.call(unix.SYS_FCNTL, b.fd(ExtraSlot(i)), flags(unix.F_DUPFD, "F_DUPFD"), num(int64(3+n))).into(regs[i])
	}
	for i, r := range regs {
		b.call(unix.SYS_DUP3, r.arg(), num(int64(3+i)), num(0))
		b.close(r)
	}
}
