package program

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// builder appends steps to a program. Its label is copied to every step, so that a group of steps
// that does one thing reads as one.
type builder struct {
	p     Program
	args  []Arg // of all steps
	label string
	seen  map[constant]uint32 // what stands in Data already
	free  []Reg
	used  Reg
	err   error
}

// constant is bytes in Data that no step changes.
type constant struct {
	bytes string
	align int // 0: of a string, which a NUL follows
}

// What a usual container's program fits in.
const (
	usualSteps = 384
	usualData  = 16 << 10
)

// builders are those whose programs are done: growing the slices of a new one is half of compiling.
var builders = sync.Pool{New: func() any {
	return &builder{p: Program{Steps: make([]Step, 0, usualSteps), Data: make([]byte, 0, usualData)},
		args: make([]Arg, 0, 3*usualSteps), seen: make(map[constant]uint32, usualSteps)}
}}

func newBuilder() *builder {
	b := builders.Get().(*builder)
	b.p.Clone.Cgroup = NoSlot
	return b
}

// program returns a copy of what was built, or the first error. The builder is not to be used afterwards.
func (b *builder) program() (*Program, error) {
	defer b.giveBack()
	if b.err != nil {
		return nil, b.err
	}
	p := b.p
	p.Steps, p.Data = slices.Clone(p.Steps), bytes.Clone(p.Data)
	args := slices.Clone(b.args)
	for i := range p.Steps {
		n := len(p.Steps[i].Args)
		p.Steps[i].Args, args = args[:n:n], args[n:]
	}
	return &p, nil
}

func (b *builder) giveBack() {
	clear(b.p.Steps) // of what they point to
	clear(b.args)
	clear(b.p.Data) // secrets
	clear(b.seen)
	*b = builder{p: Program{Steps: b.p.Steps[:0], Data: b.p.Data[:0]}, args: b.args[:0], seen: b.seen}
	builders.Put(b)
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// labelf sets the label of the steps to come.
func (b *builder) labelf(format string, args ...any) { b.label = fmt.Sprintf(format, args...) }

// call appends a step and returns it for its result and fine errnos; the pointer is good until the next
// call.
func (b *builder) call(nr Call, args ...Arg) *Step {
	at := len(b.args)
	b.args = append(b.args, args...)
	b.p.Steps = append(b.p.Steps, Step{Call: nr, Label: b.label, Args: b.args[at:]})
	return &b.p.Steps[len(b.p.Steps)-1]
}

// into keeps the result in r.
func (s *Step) into(r Reg) *Step {
	s.Result = r
	return s
}

// fine lets the program go on after any of these errnos.
func (s *Step) fine(errnos ...syscall.Errno) *Step {
	s.Fine = errnos
	return s
}

// last is the index of the newest step, to be given to okHere and fineHere.
func (b *builder) last() int { return len(b.p.Steps) - 1 }

// okHere makes the success of step i go on behind the newest step.
func (b *builder) okHere(i int) { b.p.Steps[i].OnOK = b.skip(i) }

// fineHere makes a fine errno of step i go on behind the newest step.
func (b *builder) fineHere(i int) { b.p.Steps[i].OnFine = b.skip(i) }

func (b *builder) skip(i int) uint16 {
	n := len(b.p.Steps) - i - 1
	if n > 1<<16-1 {
		b.fail("launch program: %q skips %d steps", b.p.Steps[i].Label, n)
		return 0
	}
	return uint16(n)
}

// reg takes a free register.
func (b *builder) reg() Reg {
	if n := len(b.free); n > 0 {
		r := b.free[n-1]
		b.free = b.free[:n-1]
		return r
	}
	b.used++
	if b.used >= Registers {
		b.fail("launch program: %s: more than %d descriptors at once", b.label, Registers-1)
		b.used = Registers - 1
	}
	return b.used
}

// close closes the descriptor in a register and gives the register back.
func (b *builder) close(r Reg) {
	b.call(unix.SYS_CLOSE, r.arg())
	b.free = append(b.free, r)
}

func (r Reg) arg() Arg { return Arg{Kind: ArgReg, Value: uint64(r)} }

// slot names one more descriptor that the caller brings, or finds the one of that name.
func (b *builder) slot(name string) Slot {
	for i, s := range b.p.Slots {
		if s == name {
			return Slot(i)
		}
	}
	b.p.Slots = append(b.p.Slots, name)
	return Slot(len(b.p.Slots) - 1)
}

func (b *builder) fd(name string) Arg {
	return Arg{Kind: ArgSlot, Value: uint64(b.slot(name))}
}

func num(v int64) Arg { return Arg{Value: uint64(v)} }

// flags is a number that people know by names.
func flags(v uint64, text string) Arg { return Arg{Value: v, Text: text} }

func cwd() Arg { return flags(uint64(1<<64+unix.AT_FDCWD), "AT_FDCWD") }

// str is a NUL-terminated string.
func (b *builder) str(s string) Arg {
	if strings.IndexByte(s, 0) >= 0 {
		b.fail("%s: %q has a NUL byte", b.label, s)
	}
	at, ok := b.seen[constant{s, 0}]
	if !ok {
		at = uint32(len(b.p.Data))
		b.p.Data = append(append(b.p.Data, s...), 0)
		b.seen[constant{s, 0}] = at
	}
	return Arg{Kind: ArgData, Value: uint64(at)}
}

// constant puts bytes that no step changes into Data, once.
func (b *builder) constant(s string, align int) uint32 {
	key := constant{s, align}
	at, ok := b.seen[key]
	if !ok {
		at = b.alloc(align)
		b.p.Data = append(b.p.Data, s...)
		b.seen[key] = at
	}
	return at
}

// alloc aligns the end of Data and returns it.
func (b *builder) alloc(align int) uint32 {
	for len(b.p.Data)%align != 0 {
		b.p.Data = append(b.p.Data, 0)
	}
	return uint32(len(b.p.Data))
}

// words is a constant of 64-bit words: a struct of them.
func (b *builder) words(text string, words ...uint64) Arg {
	var raw []byte
	for _, w := range words {
		raw = binary.LittleEndian.AppendUint64(raw, w)
	}
	return Arg{Kind: ArgData, Value: uint64(b.constant(string(raw), 8)), Text: text}
}

// vector is a NULL-terminated vector of strings. Its text never shows them: they may be secrets.
func (b *builder) vector(text string, ss []string) Arg {
	at := make([]uint32, len(ss))
	for i, s := range ss {
		at[i] = uint32(b.str(s).Value)
	}
	base := b.alloc(8)
	for i := range ss {
		b.pointer(base+uint32(8*i), at[i])
	}
	b.p.Data = append(b.p.Data, make([]byte, 8*(len(ss)+1))...)
	return Arg{Kind: ArgData, Value: uint64(base), Text: text}
}

// pointer makes the word at `at` hold the address of `to`.
func (b *builder) pointer(at, to uint32) {
	b.p.Pointers = append(b.p.Pointers, Pointer{At: at, To: to})
}

// memory is zeroed room for steps to write to.
func (b *builder) memory(size int) uint32 {
	at := b.alloc(8)
	b.p.Data = append(b.p.Data, make([]byte, size)...)
	return at
}

func data(at uint32, text string) Arg { return Arg{Kind: ArgData, Value: uint64(at), Text: text} }
