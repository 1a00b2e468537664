package program

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// String returns the program as text: its slots, how the child is cloned, then one line a step:
//
//	12  openat2(<root>, "data", O_PATH|O_DIRECTORY in-root) = r3   ENOENT ok, success to 17   # mount /data
//
// Arguments and environment of the user's program are counted, not shown.
func (p *Program) String() string { return p.Annotate(func(int) string { return "" }) }

// Annotate is String with a margin before the line of each step.
func (p *Program) Annotate(margin func(step int) string) string {
	var w strings.Builder
	fmt.Fprintf(&w, "slots: %s\n", strings.Join(p.Slots, ", "))
	fmt.Fprintf(&w, "clone: %s", cloneText(p.Clone.Flags))
	if p.Clone.Cgroup != NoSlot {
		fmt.Fprintf(&w, " into <%s>", p.Slots[p.Clone.Cgroup])
	}
	if p.Clone.UIDMap != "" {
		fmt.Fprintf(&w, " users %q groups %q", p.Clone.UIDMap, p.Clone.GIDMap)
	}
	w.WriteByte('\n')
	for i := range p.Steps {
		w.WriteString(margin(i))
		w.WriteString(p.line(i))
	}
	return w.String()
}

func (p *Program) line(i int) string {
	s := &p.Steps[i]
	text := fmt.Sprintf("%3d  %s(%s)", i, callName(s.Call), strings.Join(p.argTexts(s), ", "))
	if s.Result != 0 {
		text += " = r" + strconv.Itoa(int(s.Result))
	}
	if s.Store != 0 {
		text += " stored at " + strconv.Itoa(int(s.Store-1))
	}
	var notes []string
	for _, e := range s.Fine {
		notes = append(notes, unix.ErrnoName(e))
	}
	if len(notes) > 0 {
		notes = []string{strings.Join(notes, ", ") + " ok"}
	}
	if s.OnFine != 0 {
		notes[0] = strings.TrimSuffix(notes[0], "ok") + "to " + strconv.Itoa(i+1+int(s.OnFine))
	}
	if s.OnOK != 0 {
		notes = append(notes, "success to "+strconv.Itoa(i+1+int(s.OnOK)))
	}
	if len(notes) > 0 {
		text += "   [" + strings.Join(notes, "; ") + "]"
	}
	return text + "   # " + s.Label + "\n"
}

// argTexts are a step's arguments.
func (p *Program) argTexts(s *Step) []string {
	var out []string
	for _, a := range s.Args {
		out = append(out, p.argText(a))
	}
	return out
}

// argText is an argument as a person reads it. Data without a text is a string, which ends with a NUL.
func (p *Program) argText(a Arg) string {
	switch {
	case a.Text != "":
		return a.Text
	case a.Kind == ArgReg:
		return "r" + strconv.Itoa(int(a.Value))
	case a.Kind == ArgSlot:
		return "<" + p.Slots[a.Value] + ">"
	case a.Kind == ArgData:
		text, _, _ := bytes.Cut(p.Data[a.Value:], []byte{0})
		return strconv.Quote(string(text))
	default:
		return strconv.FormatInt(int64(a.Value), 10)
	}
}

func cloneText(f uint64) string {
	var names []string
	for _, n := range namespaces {
		if f&n.flag != 0 {
			names = append(names, n.text)
		}
	}
	if len(names) == 0 {
		return "no new namespace"
	}
	return "new " + strings.Join(names, ", ")
}

// callName names the calls that programs are made of.
func callName(c Call) string {
	switch c {
	case CallAdopt:
		return "adopt"
	case CallFail:
		return "fail"
	case CallRequire:
		return "require"
	}
	if n, ok := callNames[c]; ok {
		return n
	}
	return "syscall_" + strconv.Itoa(int(c))
}

var callNames = map[Call]string{
	unix.SYS_CAPSET: "capset", unix.SYS_CHDIR: "chdir", unix.SYS_CLONE3: "clone3", unix.SYS_CLOSE: "close",
	unix.SYS_CLOSE_RANGE: "close_range", unix.SYS_DUP3: "dup3", unix.SYS_FCNTL: "fcntl", unix.SYS_EXECVE: "execve", unix.SYS_EXECVEAT: "execveat",
	unix.SYS_FCHDIR: "fchdir", unix.SYS_FCHOWN: "fchown", unix.SYS_FCHOWNAT: "fchownat", unix.SYS_FSCONFIG: "fsconfig", unix.SYS_FSMOUNT: "fsmount",
	unix.SYS_FSOPEN: "fsopen", unix.SYS_IOCTL: "ioctl", unix.SYS_IOPRIO_SET: "ioprio_set", unix.SYS_KEYCTL: "keyctl",
	unix.SYS_MKDIRAT: "mkdirat", unix.SYS_MKNODAT: "mknodat", unix.SYS_MOUNT: "mount", unix.SYS_MOUNT_SETATTR: "mount_setattr",
	unix.SYS_MOVE_MOUNT: "move_mount", unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_OPEN_TREE: "open_tree",
	unix.SYS_PERSONALITY: "personality", unix.SYS_PIVOT_ROOT: "pivot_root", unix.SYS_PRCTL: "prctl", unix.SYS_PRLIMIT64: "prlimit64",
	unix.SYS_READ: "read", unix.SYS_SENDTO: "sendto",
	unix.SYS_SCHED_SETAFFINITY: "sched_setaffinity", unix.SYS_SET_MEMPOLICY: "set_mempolicy", unix.SYS_SCHED_SETATTR: "sched_setattr", unix.SYS_SECCOMP: "seccomp",
	unix.SYS_SENDMSG: "sendmsg", unix.SYS_SETDOMAINNAME: "setdomainname", unix.SYS_SETGROUPS: "setgroups",
	unix.SYS_SETHOSTNAME: "sethostname", unix.SYS_SETNS: "setns", unix.SYS_SETRESGID: "setresgid", unix.SYS_SETRESUID: "setresuid",
	unix.SYS_SETSID: "setsid", unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_UMASK: "umask", unix.SYS_UMOUNT2: "umount2",
	unix.SYS_UNSHARE: "unshare", unix.SYS_WRITE: "write",
}
