package program

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Fault is whose a failed step is.
type Fault int

// The faults. That of the zero value is the node's, or ours.
const (
	FaultNode    Fault = iota
	FaultCommand       // the container has no such program, or the kernel can't execute it with these arguments
	FaultPath          // what is at a path in the container's root isn't what a mount or the working directory needs
)

var (
	// badCommand is what execve(2) says of a program that isn't there or isn't one, and of its arguments.
	badCommand = []syscall.Errno{
		unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.EACCES, unix.ELOOP, unix.ENAMETOOLONG, unix.ENOEXEC, unix.ELIBBAD, unix.E2BIG,
	}
	// badPath is what openat2(2) and mkdirat(2) say of paths that the image, or a volume, has something else at.
	badPath = []syscall.Errno{unix.ENOTDIR, unix.EISDIR, unix.EACCES, unix.ELOOP, unix.ENAMETOOLONG, unix.EROFS}
	// badMount is what move_mount(2) says of a file that is to cover a directory, and the other way around.
	badMount = []syscall.Errno{unix.EINVAL, unix.ENOTDIR}
)

// Fault says whose it is that the step with that index failed with errno.
func (p *Program) Fault(step int, errno syscall.Errno) Fault {
	if step < 0 || step >= len(p.Steps) {
		return FaultNode
	}
	fault, of := FaultNode, []syscall.Errno(nil)
	switch p.Steps[step].Call {
	case unix.SYS_EXECVE, unix.SYS_EXECVEAT, CallFail:
		fault, of = FaultCommand, badCommand
	case unix.SYS_OPENAT2, unix.SYS_MKDIRAT, unix.SYS_FCHDIR:
		fault, of = FaultPath, badPath
	case unix.SYS_MOVE_MOUNT:
		fault, of = FaultPath, badMount
	}
	if !slices.Contains(of, errno) {
		return FaultNode
	}
	return fault
}
