package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file runs in zygotes and in their children, where there is no Go runtime: one
// thread, no heap, no goroutine. Its functions call nothing but raw system calls, have
// no prologue that would grow a stack (nosplit), and store no pointers (the write
// barrier may have been on at the fork).

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// The descriptors of a zygote: 0 to 2 are its parent's, the socket is the next.
const (
	socketFD = 3
	firstFD  = socketFD + 1 // of those that come with a request
)

// maxRights is SCM_MAX_FD of unix(7): how many descriptors go with one message.
const maxRights = 253

// head comes before each request, with up to maxRights descriptors. Those that are
// more came with heads of size 0.
type head struct{ size uint64 }

// answer is what a zygote says of a request; the child's pidfd comes with it.
type answer struct {
	pid   int32
	errno uint32
}

// message is a msghdr of recvmsg(2) with all that it points to.
type message struct {
	hdr     unix.Msghdr
	iov     unix.Iovec
	head    head
	answer  answer
	control [16 + 4*maxRights + 12]byte
}

// area is the memory that a zygote keeps of its own, the request behind it.
type area struct {
	in, out  message
	socket   uintptr // the zygote's end, before it becomes socketFD
	strip    uintptr // of [2]uintptr: what of the parent's memory the zygote drops
	stripLen uintptr
	name     uintptr // of a byte string: its name for prctl(2)
	arg      uintptr // of the process's first argument, which its name overwrites; 0: does not
	nameLen  uintptr
	thread   [16]uintptr // what the zygote has for the thread's own variables, which are around its middle
}

const (
	// areaSize is what a zygote has for a request, in bytes. It takes memory only as
	// far as it is used.
	areaSize = 32 << 20
	// keptSize is how much of it a zygote keeps from one request to the next.
	keptSize = 1 << 20
	// stackBelow and stackAbove are what a zygote keeps around where its stack is, in
	// bytes: nosplit functions need less than one kilobyte.
	stackBelow, stackAbove = 8 << 10, 8 << 10
)

// at makes a pointer of an address in the area, which Go knows nothing of.
//
//go:nosplit
//go:norace
//go:nocheckptr
func at(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

// hatch forks a zygote; in it, hatch never returns. The parent gets the pid.
//
//go:noinline
//go:norace
//go:nocheckptr
func hatch(ca *cloneArgs, a *area) (pid uintptr, errno syscall.Errno) {
	var i, from, to, low, high uintptr
	var span *[2]uintptr
	beforeFork()
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(ca)), unsafe.Sizeof(*ca), 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()
	// What is not unmapped here each child would copy and each execve take apart again.
	low = (uintptr(unsafe.Pointer(&low)) - stackBelow) &^ 4095
	high = (uintptr(unsafe.Pointer(&low)) + stackAbove) &^ 4095
	for i = 0; i < a.stripLen; i++ {
		span = (*[2]uintptr)(at(a.strip + i*unsafe.Sizeof(*span)))
		from, to = span[0], span[1]
		if from < high && to > low { // the stack is in it
			if from < low {
				syscall.RawSyscall(unix.SYS_MUNMAP, from, low-from, 0)
			}
			if to > high {
				syscall.RawSyscall(unix.SYS_MUNMAP, high, to-high, 0)
			}
			continue
		}
		syscall.RawSyscall(unix.SYS_MUNMAP, from, to-from, 0)
	}
	if a.stripLen != 0 {
		setThread(uintptr(unsafe.Pointer(&a.thread[8])))
	}
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0)
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, a.name, 0)
	if a.arg != 0 {
		for i = 0; i < a.nameLen; i++ {
			*(*byte)(at(a.arg + i)) = *(*byte)(at(a.name + i))
		}
	}
	if a.socket != socketFD {
		syscall.RawSyscall(unix.SYS_DUP3, a.socket, socketFD, unix.O_CLOEXEC)
	}
	syscall.RawSyscall(unix.SYS_CLOSE_RANGE, firstFD, 1<<32-1, 0)
	serve(a)
	return 0, 0
}

// serve answers requests until the parent has closed its end, or is dead.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func serve(a *area) {
	var n, got, size, base uintptr
	var errno syscall.Errno
	base = uintptr(unsafe.Pointer(a)) + unsafe.Sizeof(*a)
	for {
		a.in.hdr.Controllen = uint64(unsafe.Sizeof(a.in.control))
		n, _, errno = syscall.RawSyscall(unix.SYS_RECVMSG, socketFD, uintptr(unsafe.Pointer(&a.in.hdr)), unix.MSG_CMSG_CLOEXEC)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || n != unsafe.Sizeof(a.in.head) || a.in.hdr.Flags&unix.MSG_CTRUNC != 0 || a.in.head.size > areaSize {
			break
		}
		size = uintptr(a.in.head.size)
		if size == 0 {
			continue // more descriptors come
		}
		for got = 0; got < size; got += n {
			n, _, errno = syscall.RawSyscall(unix.SYS_READ, socketFD, base+got, size-got)
			if errno == unix.EINTR {
				n = 0
			} else if errno != 0 || n == 0 {
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
		}
		launch(a, (*request)(at(base)))
		if size > keptSize {
			syscall.RawSyscall(unix.SYS_MADVISE, (base+keptSize)&^4095, areaSize-keptSize-4096, unix.MADV_DONTNEED)
		}
	}
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
}

// launch makes the child of a request and says so.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func launch(a *area, r *request) {
	var pid uintptr
	var errno syscall.Errno
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&r.clone)), unsafe.Sizeof(r.clone), 0)
	if errno == 0 && pid == 0 {
		walk(r)
	}
	a.out.answer.pid, a.out.answer.errno = int32(pid), uint32(errno)
	a.out.hdr.Controllen = 0
	if errno == 0 {
		// The cmsghdr before it was filled in by the parent.
		*(*int32)(unsafe.Pointer(&a.out.control[unix.SizeofCmsghdr])) = r.pidfd
		a.out.hdr.Controllen = unix.SizeofCmsghdr + 8
	}
	syscall.RawSyscall(unix.SYS_SENDMSG, socketFD, uintptr(unsafe.Pointer(&a.out.hdr)), unix.MSG_NOSIGNAL)
	syscall.RawSyscall(unix.SYS_CLOSE_RANGE, firstFD, 1<<32-1, 0)
}

// walk is the life of a child.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func walk(t *request) {
	var i, j uintptr
	var r1 uintptr
	var errno syscall.Errno
	var o *op
	var span *[2]uintptr
	var a [6]uintptr
	if t.times != 0 {
		*(*uint64)(at(t.times)) = counter()
	}
	for i = 0; i < t.gapCount; i++ {
		span = (*[2]uintptr)(at(t.gaps + i*unsafe.Sizeof(*span)))
		syscall.RawSyscall(unix.SYS_CLOSE_RANGE, span[0], span[1], 0)
	}
	if t.syncFD != 0 {
		r1, _, errno = syscall.RawSyscall(unix.SYS_READ, t.syncFD, uintptr(unsafe.Pointer(&t.byte)), 1)
		if errno != 0 || r1 != 1 {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0) // the parent failed and says so itself
		}
	}
	for i = 0; i < t.opCount; i++ {
		if i < t.timed {
			*(*uint64)(at(t.times + 8 + i*8)) = counter()
		}
		o = (*op)(at(t.ops + i*unsafe.Sizeof(*o)))
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
		if (o.nr == unix.SYS_EXECVE || o.nr == unix.SYS_EXECVEAT) && t.arrived != 0 {
			*(*byte)(at(t.arrived)) = arrivalMade
		}
		if o.nr == opFail {
			errno = syscall.Errno(a[0])
		} else if o.nr == opRequire {
			errno = 0
			if a[0] != a[1] {
				errno = syscall.Errno(a[2])
			}
		} else {
			r1, _, errno = syscall.RawSyscall6(o.nr, a[0], a[1], a[2], a[3], a[4], a[5])
		}
		if errno != 0 {
			if errno == o.fine[0] || errno == o.fine[1] || errno == o.fine[2] || errno == o.fine[3] {
				i += uintptr(o.onFine)
				continue
			}
			t.msg.kind, t.msg.value, t.msg.errno = statusFailed, uint32(i), uint32(errno)
			syscall.RawSyscall(unix.SYS_WRITE, t.errFD, uintptr(unsafe.Pointer(&t.msg)), unsafe.Sizeof(t.msg))
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
		}
		t.regs[o.result&63] = r1
		if o.store != 0 {
			*(*int32)(at(o.store)) = int32(r1)
		}
		i += uintptr(o.onOK)
	}
	if t.arrived != 0 {
		*(*byte)(at(t.arrived)) = arrivalMade
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
