package program

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFault(t *testing.T) {
	p := Program{Steps: []Step{{Call: unix.SYS_EXECVE}, {Call: CallFail}, {Call: unix.SYS_OPENAT2}, {Call: unix.SYS_MOVE_MOUNT}, {Call: unix.SYS_SETNS}}}
	for _, c := range []struct {
		step  int
		errno syscall.Errno
		want  Fault
	}{
		{0, unix.ENOENT, FaultCommand}, {0, unix.E2BIG, FaultCommand}, {0, unix.ENOMEM, FaultNode}, {1, unix.ENOENT, FaultCommand},
		{2, unix.ENOTDIR, FaultPath}, {2, unix.EROFS, FaultPath}, {2, unix.EMFILE, FaultNode}, {2, unix.EINVAL, FaultNode},
		{3, unix.EINVAL, FaultPath}, {3, unix.EPERM, FaultNode}, {4, unix.EINVAL, FaultNode}, {-1, unix.ENOENT, FaultNode}, {5, unix.ENOENT, FaultNode},
	} {
		if got := p.Fault(c.step, c.errno); got != c.want {
			t.Errorf("step %d, %v: fault %d, wanted %d", c.step, c.errno, got, c.want)
		}
	}
}
