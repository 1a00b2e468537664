package program

import "syscall"

// Program is a launch program. The zero value is an empty one, which a child walks by exiting with 0.
type Program struct {
	Clone    Clone
	Steps    []Step
	Slots    []string // the descriptors that the caller brings, by name
	Data     []byte
	Pointers []Pointer
	SlotRefs []SlotRef
}

// Clone says how the child is made.
type Clone struct {
	// Flags are clone3's: CLONE_NEW* only.
	Flags uint64
	// Cgroup is the slot of a cgroup v2 directory for CLONE_INTO_CGROUP (Linux 5.7), or NoSlot.
	Cgroup Slot
	// UIDMap and GIDMap are what the launcher writes to /proc/PID/uid_map and gid_map before the
	// child's first step (user_namespaces(7)); empty unless Flags has CLONE_NEWUSER.
	UIDMap, GIDMap string
}

// Slot is an index into Program.Slots.
type Slot int16

// NoSlot stands for "no descriptor".
const NoSlot Slot = -1

// Call is a system call's number, or one of the pseudo calls below.
type Call uint32

// Pseudo calls, which the walker does by itself.
const (
	// CallAdopt tells the launcher the pid in argument 0: the process that this one made on its behalf
	// by clone3 with CLONE_PARENT. A process whose argument 0 is not zero then ends with 0; the new
	// one, which sees zero, goes on.
	CallAdopt Call = 1<<31 + iota
	// CallFail ends the program with the errno in argument 0.
	CallFail
	// CallRequire ends the program with the errno in argument 2 unless arguments 0 and 1 are the same.
	CallRequire
)

// Reg is a register: the result of an earlier step. Register 0 is none.
type Reg uint8

// Registers is how many there are, none included.
const Registers = 64

// Step is one system call of a program.
type Step struct {
	Call   Call
	Args   []Arg  // up to MaxArgs; those that are missing are 0
	Result Reg    // where the result goes; 0: nowhere
	Store  uint32 // offset+1 in Data of an int32 that gets the result too; 0: nowhere
	// Fine are the errnos (up to MaxFine) that don't fail the program.
	Fine []syscall.Errno
	// OnFine and OnOK are how many of the following steps are skipped after a fine errno and after
	// success.
	OnFine, OnOK uint16
	// Label says what the step does: "mount proc on /proc". It stays with the daemon.
	Label string
}

// MaxArgs bounds Step.Args: what a system call takes. MaxFine bounds Step.Fine.
const (
	MaxArgs = 6
	MaxFine = 4
)

// ArgKind says what an Arg's value means.
type ArgKind uint8

// The kinds of arguments.
const (
	ArgImm  ArgKind = iota // the value itself
	ArgData                // the address of Data[value]
	ArgSlot                // the descriptor in slot value
	ArgReg                 // the content of register value
)

// Arg is one argument of a step.
type Arg struct {
	Kind  ArgKind
	Value uint64
	Text  string // how a person reads it, where that doesn't follow from the value; stays with the daemon
}

// Pointer says that the eight bytes of Data from At on hold the address of Data[To].
type Pointer struct{ At, To uint32 }

// SlotRef says that the four bytes of Data from At on hold the descriptor in a slot.
type SlotRef struct {
	At   uint32
	Slot Slot
}

// Label returns what a person calls the step with that index, "" when there is none.
func (p *Program) Label(step int) string {
	if step < 0 || step >= len(p.Steps) {
		return ""
	}
	return p.Steps[step].Label
}
