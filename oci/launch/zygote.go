package launch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errZygote: a zygote ended without an answer, killed by somebody, or is not to be used any more.
// errGone: it had ended before it had read all that it was asked.
var (
	errZygote = errors.New("the zygote is gone")
	errGone   = fmt.Errorf("before it had read the program: %w", errZygote)
)

// zygoteName is what ps(1) shows: as long as the keeper's name, over which it is written.
const zygoteName = "berth-zygote"

// zygote is a process that forks children for this one.
type zygote struct {
	pid    int
	socket int
	base   uintptr // address of a request in it
}

// hatchZygote makes one.
func hatchZygote() (_ *zygote, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	defer unix.Close(pair[1])
	defer func() {
		if err != nil {
			unix.Close(pair[0])
		}
	}()
	spans, err := droppable()
	if err != nil {
		return nil, err
	}
	spanSize := unsafe.Sizeof([2]uintptr{})
	fixed := unsafe.Sizeof(area{})
	// Behind the request, where it is in nobody's way once it is read.
	stripAt := fixed + areaSize
	nameAt := stripAt + uintptr(len(spans))*spanSize
	mem, err := unix.Mmap(-1, 0, int(nameAt)+len(zygoteName)+1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map the zygote's memory: %w", err)
	}
	defer unix.Munmap(mem) // it has its own
	base := uintptr(unsafe.Pointer(&mem[0]))
	copy(mem[nameAt:], zygoteName)
	for i, span := range spans {
		*(*[2]uintptr)(unsafe.Pointer(&mem[stripAt+uintptr(i)*spanSize])) = span
	}
	a := (*area)(unsafe.Pointer(&mem[0]))
	a.socket, a.strip, a.stripLen = uintptr(pair[1]), base+stripAt, uintptr(len(spans))
	a.name, a.nameLen = base+nameAt, uintptr(len(zygoteName))
	if len(os.Args) > 0 && len(os.Args[0]) == len(zygoteName) {
		a.arg = uintptr(unsafe.Pointer(unsafe.StringData(os.Args[0]))) // where the kernel put it
	}
	a.prepare()
	ca := &cloneArgs{exitSignal: uint64(syscall.SIGCHLD)}
	// ForkLock keeps descriptors that other goroutines are just opening without O_CLOEXEC out of the
	// zygote; the thread stays ours so that the fork hooks see one and the same.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.ForkLock.Lock()
	pid, errno := hatch(ca, a)
	syscall.ForkLock.Unlock()
	if errno != 0 {
		return nil, fmt.Errorf("fork a zygote: %w", errno)
	}
	return &zygote{pid: int(pid), socket: pair[0], base: base + fixed}, nil
}

// prepare fills in the messages that the zygote will receive and send.
func (a *area) prepare() {
	for _, m := range []*message{&a.in, &a.out} {
		m.hdr.Iov, m.hdr.Iovlen = &m.iov, 1
		m.hdr.Control = &m.control[0]
	}
	a.in.iov.Base = (*byte)(unsafe.Pointer(&a.in.head))
	a.in.iov.SetLen(int(unsafe.Sizeof(a.in.head)))
	a.out.iov.Base = (*byte)(unsafe.Pointer(&a.out.answer))
	a.out.iov.SetLen(int(unsafe.Sizeof(a.out.answer)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&a.out.control[0]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	h.SetLen(unix.CmsgLen(4))
}

// droppable lists the spans of this process's memory that a zygote has no use for:
// all that is of no file, but the kernel's own and the main thread's stack, where the
// arguments are (proc_pid_maps(5)). In a process with a libc (a test with the race
// detector) there is nothing to drop: its threads have memory that the kernel writes
// to behind their back (rseq).
func droppable() ([][2]uintptr, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, fmt.Errorf("list memory: %w", err)
	}
	var out [][2]uintptr
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		var from, to uintptr
		f := strings.Fields(lines.Text())
		if len(f) > 5 && strings.Contains(f[5], "/libc.") {
			return nil, nil
		}
		if len(f) > 5 && f[5] != "[heap]" && !strings.HasPrefix(f[5], "[anon") {
			continue
		}
		if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err != nil {
			return nil, fmt.Errorf("list memory: %q: %w", lines.Text(), err)
		}
		out = append(out, [2]uintptr{from, to})
	}
	return out, nil
}

// run has the zygote make the child of a request, and returns it and its pidfd.
// Errors: errGone when the zygote was dead before it had read all, so that another may be asked;
// otherwise those that wrap errZygote say that it can't be used any more.
func (z *zygote) run(blob []byte, files []int) (pid, pidfd int, err error) {
	for first := true; ; first = false {
		size, n := len(blob), min(len(files), maxRights)
		if n < len(files) {
			size = 0
		}
		if err := z.send(size, files[:n]); err != nil && first {
			return 0, -1, err
		} else if err != nil {
			return 0, -1, errors.Join(errZygote, err) // it has descriptors of a request that won't come
		}
		if files = files[n:]; size > 0 {
			break
		}
	}
	for len(blob) > 0 {
		n, err := unix.SendmsgN(z.socket, blob, nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EPIPE || err == unix.ECONNRESET {
			return 0, -1, errGone // it has not read the end
		}
		if err != nil && err != unix.EINTR {
			return 0, -1, errors.Join(errZygote, fmt.Errorf("send launch program: %w", err))
		}
		blob = blob[max(n, 0):]
	}
	return z.receive()
}

// send sends a head and descriptors. Errors: errGone, EBADF for what is no descriptor.
func (z *zygote) send(size int, files []int) error {
	h := head{size: uint64(size)}
	text := unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h))
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	for {
		switch err := unix.Sendmsg(z.socket, text, rights, nil, unix.MSG_NOSIGNAL); err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EPIPE, unix.ECONNRESET:
			return errGone
		default:
			return fmt.Errorf("send launch program: %w", err)
		}
	}
}

// receive waits for the answer.
func (z *zygote) receive() (pid, pidfd int, err error) {
	var got answer
	text := unsafe.Slice((*byte)(unsafe.Pointer(&got)), unsafe.Sizeof(got))
	control := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	for {
		n, oobn, _, _, err = unix.Recvmsg(z.socket, text, control, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.ECONNRESET {
		return 0, -1, errGone // unix(7): it has left some of it unread
	}
	if err != nil || n != len(text) {
		return 0, -1, errors.Join(errZygote, err)
	}
	if got.errno != 0 {
		return 0, -1, fmt.Errorf("clone3: %w", syscall.Errno(got.errno))
	}
	msgs, err := unix.ParseSocketControlMessage(control[:oobn])
	if err == nil && len(msgs) == 1 {
		var fds []int
		if fds, err = unix.ParseUnixRights(&msgs[0]); err == nil && len(fds) == 1 {
			return int(got.pid), fds[0], nil
		}
	}
	// Only with no descriptor left. The child is ours, and not reaped before we are told of it.
	_ = unix.Kill(int(got.pid), unix.SIGKILL)
	return 0, -1, errors.Join(fmt.Errorf("receive the pidfd of process %d: %w", got.pid, unix.EMFILE), err)
}

// close ends the zygote, once the last child that it is making exists.
func (z *zygote) close() {
	unix.Close(z.socket)
	for {
		if _, err := unix.Wait4(z.pid, nil, 0, nil); err != unix.EINTR {
			return // ECHILD: somebody reaps all children; so be it
		}
	}
}
