package program

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Command is what CompileCommand needs: a program of the host's, which sees mounts that nobody else does.
type Command struct {
	Args   []string // Args[0] is an absolute path
	Env    []string
	Mounts []Attach // in order
	TTY    bool     // the slots for standard input and output are a terminal, which becomes the session's
}

// Attach is a detached mount, in the slot that AttachSlot names, for a path of the host.
type Attach struct{ Target string }

// AttachSlot is the name of the slot of the detached mount for a path of the host.
func AttachSlot(target string) string { return "mount " + target }

// CompileCommand compiles the program that executes a program of the host's in a mount namespace of its
// own: a copy of the host's that follows what is mounted there, with some mounts more that end with the
// program and with what it made from them.
//
// Slots: "stdin", "stdout", "stderr", and those of Mounts.
func CompileCommand(in Command) (*Program, error) {
	b := newCompiler()
	if len(in.Args) == 0 || !strings.HasPrefix(in.Args[0], "/") {
		b.fail("compile command: %q: no absolute path to execute", in.Args)
		return b.program()
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
	b.call(unix.SYS_CLOSE_RANGE, num(3), flags(1<<32-1, "~0"), flags(unix.CLOSE_RANGE_CLOEXEC, "CLOEXEC"))
	b.labelf("execute %s", strings.Join(in.Args, " "))
	argv := b.vector(strconv.Itoa(len(in.Args))+" arguments", in.Args)
	env := b.vector(strconv.Itoa(len(in.Env))+" variables", in.Env)
	b.call(unix.SYS_EXECVE, b.str(in.Args[0]), argv, env)
	return b.program()
}
