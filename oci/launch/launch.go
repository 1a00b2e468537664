package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// StepError is a program that did not reach its end: the index of the step that failed, and why.
type StepError struct {
	Step  int
	Errno syscall.Errno
}

func (e *StepError) Error() string {
	return fmt.Sprintf("launch step %d: %s", e.Step, e.Errno.Error())
}

// Unwrap returns the errno.
func (e *StepError) Unwrap() error { return e.Errno }

// Child is a process that walks a program.
type Child struct {
	// PID is the child's, in this process's PID namespace.
	PID int
	// PidFD refers to it (close-on-exec); it is the caller's to close.
	PidFD  int
	status *os.File
}

// Start forks a child that walks the program. files[i] is the descriptor of slot i, each 3 or more;
// they stay open here, and the child closes all others before its first step. Start returns as soon as
// the child exists, and its id maps are written; Wait tells how it fared. It may be called from several
// goroutines at once.
//
// Errors: files don't match the slots, clone3 refuses (ENOSPC: too many namespaces, EAGAIN: too many
// processes), an id map is refused. Then there is no child.
func Start(p *program.Program, files []int) (*Child, error) {
	if len(files) != len(p.Slots) {
		return nil, fmt.Errorf("launch program with %d slots: %d descriptors given", len(p.Slots), len(files))
	}
	for i, fd := range files {
		if fd < 3 {
			return nil, fmt.Errorf("launch program: slot %d is descriptor %d, below 3", i, fd)
		}
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make status pipe: %w", err)
	}
	t := &tape{ops: resolve(p, files), errFD: uintptr(pipe[1]), pidfd: -1}
	// The kernel and the child see addresses that the garbage collector doesn't: nothing of it may
	// live on a goroutine's stack, which moves when it grows.
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(t)
	if len(p.Data) > 0 {
		pin.Pin(&p.Data[0])
	}
	mapped := p.Clone.Flags&unix.CLONE_NEWUSER != 0
	var sync [2]int
	if mapped {
		if err := unix.Pipe2(sync[:], unix.O_CLOEXEC); err != nil {
			closeAll(pipe[:])
			return nil, fmt.Errorf("make sync pipe: %w", err)
		}
		t.syncFD = uintptr(sync[0])
		defer closeAll(sync[:])
	}
	t.close = gaps(append(slices.Clone(files), pipe[1]), sync[0])
	pid, errno := clone(p, t, files)
	unix.Close(pipe[1])
	if errno != 0 {
		unix.Close(pipe[0])
		return nil, fmt.Errorf("clone3: %w", errno)
	}
	c := &Child{PID: pid, PidFD: int(t.pidfd), status: os.NewFile(uintptr(pipe[0]), "launch status")}
	if mapped {
		if err := c.mapIDs(p, sync[1]); err != nil {
			return nil, errors.Join(err, c.abort())
		}
	}
	return c, nil
}

func clone(p *program.Program, t *tape, files []int) (int, syscall.Errno) {
	ca := &cloneArgs{
		flags:      p.Clone.Flags | unix.CLONE_PIDFD,
		pidfd:      uint64(uintptr(unsafe.Pointer(&t.pidfd))),
		exitSignal: uint64(syscall.SIGCHLD),
	}
	if p.Clone.Cgroup != program.NoSlot {
		ca.flags |= unix.CLONE_INTO_CGROUP
		ca.cgroup = uint64(files[p.Clone.Cgroup])
	}
	// ForkLock keeps descriptors that other goroutines are just opening without O_CLOEXEC out of the
	// child; the thread stays ours so that the fork hooks see one and the same.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.ForkLock.Lock()
	pid, errno := fork(ca, t)
	syscall.ForkLock.Unlock()
	return int(pid), errno
}

// mapIDs writes the child's id maps (user_namespaces(7)) and lets it go.
func (c *Child) mapIDs(p *program.Program, sync int) error {
	dir := "/proc/" + strconv.Itoa(c.PID)
	if err := os.WriteFile(dir+"/uid_map", []byte(p.Clone.UIDMap), 0); err != nil {
		return fmt.Errorf("map users: %w", err)
	}
	if err := os.WriteFile(dir+"/gid_map", []byte(p.Clone.GIDMap), 0); err != nil {
		return fmt.Errorf("map groups: %w", err)
	}
	if _, err := unix.Write(sync, []byte{1}); err != nil {
		return fmt.Errorf("release child: %w", err)
	}
	return nil
}

// abort ends a child that was not let go, and reaps it.
func (c *Child) abort() error {
	err := unix.PidfdSendSignal(c.PidFD, unix.SIGKILL, nil, 0)
	_, werr := unix.Wait4(c.PID, nil, 0, nil)
	if errors.Is(werr, unix.ECHILD) {
		werr = nil // somebody reaps all children; so be it
	}
	return errors.Join(err, werr, unix.Close(c.PidFD), c.status.Close())
}

// Wait blocks until the child's execve, its end, or its first failed step; call it once. It returns the
// process that now runs: c.PID, or the one that the program made by clone3(CLONE_PARENT), another
// child of this process; then c.PID ends with 0 by itself. A failed step is a *StepError; the process
// ends with 127.
//
// A child that dies from a signal before its execve looks like one that reached it; its exit status tells.
func (c *Child) Wait() (pid int, err error) {
	defer c.status.Close()
	pid = c.PID
	var buf [statusLen]byte
	for {
		if _, err := io.ReadFull(c.status, buf[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return pid, nil
			}
			return pid, fmt.Errorf("read launch status of process %d: %w", pid, err)
		}
		m := (*status)(unsafe.Pointer(&buf))
		switch m.kind {
		case statusAdopted:
			pid = int(m.value)
		default:
			return pid, &StepError{Step: int(m.value), Errno: syscall.Errno(m.errno)}
		}
	}
}

// resolve fills addresses and descriptors into the program's steps and data. It writes to p.Data, whose
// address must not change any more; Go's heap does not move.
func resolve(p *program.Program, files []int) []op {
	for _, r := range p.Pointers {
		*(*uint64)(unsafe.Pointer(&p.Data[r.At])) = uint64(uintptr(unsafe.Pointer(&p.Data[r.To])))
	}
	for _, r := range p.SlotRefs {
		*(*int32)(unsafe.Pointer(&p.Data[r.At])) = int32(files[r.Slot])
	}
	ops := make([]op, len(p.Steps))
	for i := range p.Steps {
		s, o := &p.Steps[i], &ops[i]
		switch s.Call {
		case program.CallAdopt:
			o.nr = opAdopt
		case program.CallFail:
			o.nr = opFail
		default:
			o.nr = uintptr(s.Call)
		}
		o.result, o.onFine, o.onOK = uint8(s.Result), s.OnFine, s.OnOK
		copy(o.fine[:], s.Fine)
		if s.Store != 0 {
			o.store = (*int32)(unsafe.Pointer(&p.Data[s.Store-1]))
		}
		for j, a := range s.Args {
			switch a.Kind {
			case program.ArgImm:
				o.args[j] = uintptr(a.Value)
			case program.ArgData:
				o.args[j] = uintptr(unsafe.Pointer(&p.Data[a.Value]))
			case program.ArgSlot:
				o.args[j] = uintptr(files[a.Value])
			case program.ArgReg:
				o.args[j] = uintptr(a.Value)
				o.regs |= 1 << j
			}
		}
	}
	return ops
}

// gaps returns the ranges of descriptors from 3 on that are not in keep: what the child closes. Zeros
// are passed over.
func gaps(keep []int, more ...int) [][2]uintptr {
	keep = append(keep, more...)
	slices.Sort(keep)
	var out [][2]uintptr
	next := 3
	for _, fd := range keep {
		if fd < next {
			continue
		}
		if fd > next {
			out = append(out, [2]uintptr{uintptr(next), uintptr(fd - 1)})
		}
		next = fd + 1
	}
	return append(out, [2]uintptr{uintptr(next), 1<<32 - 1})
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
