package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// cloneArgs is struct clone_args of clone3(2), CLONE_ARGS_SIZE_VER2.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// op is a step ready to run: addresses and descriptors are filled in, only registers are open.
type op struct {
	nr     uintptr
	args   [6]uintptr
	store  *int32
	fine   [4]syscall.Errno
	onFine uint16
	onOK   uint16
	regs   uint8 // bit i: args[i] is a register number
	result uint8
}

const (
	opAdopt = ^uintptr(0)
	opFail  = ^uintptr(1)
)

// status is what the child writes to the status pipe: the adopted pid, or the step that failed.
type status struct {
	kind  uint32
	value uint32
	errno uint32
	_     uint32
}

const (
	statusFailed  = 1
	statusAdopted = 2
	statusLen     = int(unsafe.Sizeof(status{}))
)

// tape is all that the child reads; it is complete before the fork.
type tape struct {
	ops    []op
	close  [][2]uintptr // ranges of descriptors to close
	syncFD uintptr      // read end that gets a byte when the id maps are written; 0: none
	errFD  uintptr      // write end of the status pipe
	pidfd  int32        // clone3 stores it here
	regs   [64]uintptr
	msg    status
	byte   [8]byte
}

// fork makes the child by clone3 and walks the tape in it. In the child it never returns. The parent
// gets the pid.
//
//go:noinline
//go:norace
//go:nocheckptr
func fork(ca *cloneArgs, t *tape) (pid uintptr, errno syscall.Errno) {
	var i, j int
	var r1 uintptr
	var o *op
	var a [6]uintptr
	beforeFork()
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(ca)), unsafe.Sizeof(*ca), 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()
	for i = 0; i < len(t.close); i++ {
		syscall.RawSyscall(unix.SYS_CLOSE_RANGE, t.close[i][0], t.close[i][1], 0)
	}
	if t.syncFD != 0 {
		r1, _, errno = syscall.RawSyscall(unix.SYS_READ, t.syncFD, uintptr(unsafe.Pointer(&t.byte)), 1)
		if errno != 0 || r1 != 1 {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0) // the parent failed and says so itself
		}
	}
	for i = 0; i < len(t.ops); i++ {
		o = &t.ops[i]
		for j = 0; j < 6; j++ {
			a[j] = o.args[j]
			if o.regs&(1<<j) != 0 {
				a[j] = t.regs[a[j]&63]
			}
		}
		if o.nr == opAdopt {
			if a[0] != 0 {
				t.msg.kind, t.msg.value = statusAdopted, uint32(a[0])
				syscall.RawSyscall(unix.SYS_WRITE, t.errFD, uintptr(unsafe.Pointer(&t.msg)), unsafe.Sizeof(t.msg))
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			continue
		}
		if o.nr == opFail {
			errno = syscall.Errno(a[0])
		} else {
			r1, _, errno = syscall.RawSyscall6(o.nr, a[0], a[1], a[2], a[3], a[4], a[5])
		}
		if errno != 0 {
			if errno == o.fine[0] || errno == o.fine[1] || errno == o.fine[2] || errno == o.fine[3] {
				i += int(o.onFine)
				continue
			}
			t.msg.kind, t.msg.value, t.msg.errno = statusFailed, uint32(i), uint32(errno)
			syscall.RawSyscall(unix.SYS_WRITE, t.errFD, uintptr(unsafe.Pointer(&t.msg)), unsafe.Sizeof(t.msg))
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
		}
		t.regs[o.result&63] = r1
		if o.store != nil {
			*o.store = int32(r1)
		}
		i += int(o.onOK)
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
