package launch

import (
	"fmt"
	"slices"
	"syscall"
	"unsafe"

	"github.com/berth-runtime/berth/oci/program"
	"golang.org/x/sys/unix"
)

// request is a launch as a zygote reads it: everything is an address in the zygote's
// area, a descriptor's number there, or a number. It is followed by the steps, the
// ranges of descriptors to close, and the program's data.
type request struct {
	clone    cloneArgs
	ops      uintptr // of op
	opCount  uintptr
	gaps     uintptr // of [2]uintptr
	gapCount uintptr
	syncFD   uintptr // read end that gets a byte when the id maps are written; 0: none
	errFD    uintptr // write end of the status pipe
	times    uintptr // of uint64: the child's sheet; 0: none
	timed    uintptr // for how many steps it has room
	arrived  uintptr // of the byte that says the child came to its execve, or its end; 0: none
	regs     [64]uintptr
	msg      status
	pidfd    int32 // clone3 stores it here
	byte     [4]byte
}

// cloneArgs is struct clone_args of clone3(2), CLONE_ARGS_SIZE_VER2.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// op is a step ready to run: addresses and descriptors are filled in, only registers are open.
type op struct {
	nr     uintptr
	args   [6]uintptr
	store  uintptr // of int32; 0: none
	fine   [4]syscall.Errno
	onFine uint16
	onOK   uint16
	regs   uint8 // bit i: args[i] is a register number
	result uint8
}

const (
	opAdopt   = ^uintptr(0)
	opFail    = ^uintptr(1)
	opRequire = ^uintptr(2)
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

// descriptors are those of a launch, by their numbers in the zygote.
type descriptors struct {
	slots  []int
	status int
	sync   int // 0: none
}

// number gives descriptors the numbers that they will have in a zygote, which has
// none free below firstFD and gets them in this order: the slots', the status
// pipe's, the sync pipe's.
func number(slots int, sync bool) descriptors {
	d := descriptors{slots: make([]int, slots), status: firstFD + slots}
	for i := range d.slots {
		d.slots[i] = firstFD + i
	}
	if sync {
		d.sync = d.status + 1
	}
	return d
}

// encode makes the request of a program for a zygote that will have it at the
// address base, and these descriptors; its child notes times on the sheet, and
// its arrival.
func encode(p *program.Program, d descriptors, base uintptr, note *sheet, arrived arrival) ([]byte, error) {
	closing := gaps(append(slices.Clone(d.slots), d.status), d.sync)
	opsAt := unsafe.Sizeof(request{})
	gapsAt := opsAt + uintptr(len(p.Steps))*unsafe.Sizeof(op{})
	dataAt := gapsAt + uintptr(len(closing))*unsafe.Sizeof([2]uintptr{})
	size := dataAt + uintptr(len(p.Data))
	if size > areaSize {
		return nil, fmt.Errorf("launch program of %d bytes: %w", size, unix.E2BIG)
	}
	words := make([]uint64, (size+7)/8) // aligned for what is laid over it
	blob := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), size)
	data := blob[dataAt:]
	copy(data, p.Data)
	for _, r := range p.Pointers {
		*(*uint64)(unsafe.Pointer(&data[r.At])) = uint64(base + dataAt + uintptr(r.To))
	}
	for _, r := range p.SlotRefs {
		*(*int32)(unsafe.Pointer(&data[r.At])) = int32(d.slots[r.Slot])
	}
	if len(closing) > 0 {
		copy(unsafe.Slice((*[2]uintptr)(unsafe.Pointer(&blob[gapsAt])), len(closing)), closing)
	}
	if len(p.Steps) > 0 {
		resolve(unsafe.Slice((*op)(unsafe.Pointer(&blob[opsAt])), len(p.Steps)), p, d.slots, base+dataAt)
	}
	r := (*request)(unsafe.Pointer(&blob[0]))
	*r = request{
		ops: base + opsAt, opCount: uintptr(len(p.Steps)), gaps: base + gapsAt, gapCount: uintptr(len(closing)),
		syncFD: uintptr(d.sync), errFD: uintptr(d.status), pidfd: -1,
		times: note.address(), timed: note.count(), arrived: uintptr(unsafe.Pointer(arrived.at)),
		// CLONE_PARENT: the child is this process's, not the zygote's, and ends with the same signal.
		clone: cloneArgs{
			flags: p.Clone.Flags | unix.CLONE_PIDFD | unix.CLONE_PARENT,
			pidfd: uint64(base + unsafe.Offsetof(r.pidfd)),
		},
	}
	if p.Clone.Cgroup != program.NoSlot {
		r.clone.flags |= unix.CLONE_INTO_CGROUP
		r.clone.cgroup = uint64(d.slots[p.Clone.Cgroup])
	}
	return blob, nil
}

// resolve makes a program's steps ready to run; data is the address of its data.
func resolve(ops []op, p *program.Program, slots []int, data uintptr) {
	for i := range p.Steps {
		s, o := &p.Steps[i], &ops[i]
		switch s.Call {
		case program.CallAdopt:
			o.nr = opAdopt
		case program.CallFail:
			o.nr = opFail
		case program.CallRequire:
			o.nr = opRequire
		default:
			o.nr = uintptr(s.Call)
		}
		o.result, o.onFine, o.onOK = uint8(s.Result), s.OnFine, s.OnOK
		copy(o.fine[:], s.Fine)
		if s.Store != 0 {
			o.store = data + uintptr(s.Store-1)
		}
		for j, a := range s.Args {
			switch a.Kind {
			case program.ArgImm:
				o.args[j] = uintptr(a.Value)
			case program.ArgData:
				o.args[j] = data + uintptr(a.Value)
			case program.ArgSlot:
				o.args[j] = uintptr(slots[a.Value])
			case program.ArgReg:
				o.args[j] = uintptr(a.Value)
				o.regs |= 1 << j
			}
		}
	}
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
