package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/berth-runtime/berth/oci/program/unpack"
)

// ErrWire is what Unmarshal's errors wrap: bytes that are no program.
var ErrWire = errors.New("malformed launch program")

// The wire form, little endian:
//
//	"bthp" version:u32
//	flags:u64 cgroup:i16 uidmap:string gidmap:string
//	steps:u32, each   call:u32 result:u8 store:u32 onFine:u16 onOK:u16 fine:u8 errno:u16… args:u8 kind:u8… value:u64…
//	slots:u32         (a number; names stay behind, as labels do)
//	pointers:u32, each at:u32 to:u32
//	slotrefs:u32, each at:u32 slot:i16
//	data:u32 bytes…
//
// A string is its length as u32, then its bytes.
const (
	wireMagic   = "bthp"
	wireVersion = 2
	maxSteps    = 1 << 16
	maxSlots    = 1 << 12
	maxData     = 64 << 20
)

// Marshal returns the wire form: what a launcher needs, without labels and names. It fails for a
// program beyond the bounds of the wire (65,536 steps, 4,096 slots, 64 MiB of data).
func (p *Program) Marshal() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	b := make([]byte, 0, 256+len(p.Steps)*80+len(p.Data)+8*len(p.Pointers))
	b = append(b, wireMagic...)
	b = le.AppendUint32(b, wireVersion)
	b = le.AppendUint64(b, p.Clone.Flags)
	b = le.AppendUint16(b, uint16(p.Clone.Cgroup))
	b = appendString(b, p.Clone.UIDMap)
	b = appendString(b, p.Clone.GIDMap)
	b = le.AppendUint32(b, uint32(len(p.Steps)))
	for i := range p.Steps {
		b = appendStep(b, &p.Steps[i])
	}
	b = le.AppendUint32(b, uint32(len(p.Slots)))
	b = le.AppendUint32(b, uint32(len(p.Pointers)))
	for _, r := range p.Pointers {
		b = le.AppendUint32(b, r.At)
		b = le.AppendUint32(b, r.To)
	}
	b = le.AppendUint32(b, uint32(len(p.SlotRefs)))
	for _, r := range p.SlotRefs {
		b = le.AppendUint32(b, r.At)
		b = le.AppendUint16(b, uint16(r.Slot))
	}
	b = le.AppendUint32(b, uint32(len(p.Data)))
	return append(b, p.Data...), nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendStep(b []byte, s *Step) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(s.Call))
	b = append(b, byte(s.Result))
	b = le.AppendUint32(b, s.Store)
	b = le.AppendUint16(b, s.OnFine)
	b = le.AppendUint16(b, s.OnOK)
	b = append(b, byte(len(s.Fine)))
	for _, e := range s.Fine {
		b = le.AppendUint16(b, uint16(e))
	}
	b = append(b, byte(len(s.Args)))
	for i := range s.Args {
		b = append(b, byte(s.Args[i].Kind))
	}
	for i := range s.Args {
		b = le.AppendUint64(b, s.Args[i].Value)
	}
	return b
}

// Unmarshal reads the wire form. Every index in the result is in range, so that a launcher can walk it
// unseen; anything else is an error that wraps ErrWire. The result has a copy of the data.
func Unmarshal(b []byte) (*Program, error) {
	r := reader{Reader: unpack.NewReader(b)}
	if string(r.Bytes(4)) != wireMagic {
		return nil, fmt.Errorf("%w: no magic", ErrWire)
	}
	if v := r.U32(); v != wireVersion {
		return nil, fmt.Errorf("%w: version %d, this is %d", ErrWire, v, wireVersion)
	}
	p := &Program{}
	p.Clone.Flags = r.U64()
	p.Clone.Cgroup = Slot(r.U16())
	p.Clone.UIDMap = string(r.Bytes(r.count(1, maxData)))
	p.Clone.GIDMap = string(r.Bytes(r.count(1, maxData)))
	p.Steps = make([]Step, r.count(stepMinLen, maxSteps))
	for i := range p.Steps {
		r.step(&p.Steps[i])
	}
	p.Slots = make([]string, r.count(0, maxSlots))
	p.Pointers = make([]Pointer, r.count(8, maxData))
	for i := range p.Pointers {
		p.Pointers[i] = Pointer{At: r.U32(), To: r.U32()}
	}
	p.SlotRefs = make([]SlotRef, r.count(6, maxData))
	for i := range p.SlotRefs {
		p.SlotRefs[i] = SlotRef{At: r.U32(), Slot: Slot(r.U16())}
	}
	p.Data = append([]byte(nil), r.Bytes(r.count(1, maxData))...)
	if r.Short() {
		return nil, fmt.Errorf("%w: it ends early", ErrWire)
	}
	if r.Len() != 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", ErrWire, r.Len())
	}
	return p, p.check()
}

// stepMinLen is the wire length of a step with no fine errno and no argument.
const stepMinLen = 4 + 1 + 4 + 2 + 2 + 1 + 1

// reader takes the wire form apart.
type reader struct {
	unpack.Reader
	args []Arg // room for those to come
}

// newArgs gets room for a step's arguments.
func (r *reader) newArgs(n int) []Arg {
	if n > len(r.args) {
		r.args = make([]Arg, 3*usualSteps)
	}
	args := r.args[:n:n]
	r.args = r.args[n:]
	return args
}

// count reads a number of things of at least size bytes each.
func (r *reader) count(size, limit int) int { return r.Count(int(r.U32()), size, limit) }

func (r *reader) step(s *Step) {
	s.Call = Call(r.U32())
	s.Result = Reg(r.U8())
	s.Store = r.U32()
	s.OnFine = r.U16()
	s.OnOK = r.U16()
	if n := int(r.U8()); n > 0 && n <= MaxFine {
		s.Fine = make([]syscall.Errno, n)
		for i := range s.Fine {
			s.Fine[i] = syscall.Errno(r.U16())
		}
	} else if n > MaxFine {
		r.Fail()
	}
	if n := int(r.U8()); n <= MaxArgs {
		s.Args = r.newArgs(n)
	} else {
		r.Fail()
	}
	for i := range s.Args {
		s.Args[i].Kind = ArgKind(r.U8())
	}
	for i := range s.Args {
		s.Args[i].Value = r.U64()
	}
}

// check reports the first index of the program that is out of range.
func (p *Program) check() error {
	if len(p.Steps) > maxSteps || len(p.Slots) > maxSlots || len(p.Data) > maxData {
		return fmt.Errorf("%w: %d steps, %d slots, %d bytes of data are too many", ErrWire, len(p.Steps), len(p.Slots), len(p.Data))
	}
	if !p.slotOK(int64(p.Clone.Cgroup)) && p.Clone.Cgroup != NoSlot {
		return fmt.Errorf("%w: cgroup slot %d", ErrWire, p.Clone.Cgroup)
	}
	for i := range p.Steps {
		if err := p.checkStep(i); err != nil {
			return fmt.Errorf("%w: step %d: %w", ErrWire, i, err)
		}
	}
	for _, r := range p.Pointers {
		if int64(r.At)+8 > int64(len(p.Data)) || int64(r.To) >= int64(len(p.Data)) {
			return fmt.Errorf("%w: pointer at %d to %d", ErrWire, r.At, r.To)
		}
	}
	for _, r := range p.SlotRefs {
		if int64(r.At)+4 > int64(len(p.Data)) || !p.slotOK(int64(r.Slot)) {
			return fmt.Errorf("%w: slot %d at %d", ErrWire, r.Slot, r.At)
		}
	}
	return nil
}

func (p *Program) slotOK(slot int64) bool { return slot >= 0 && slot < int64(len(p.Slots)) }

func (p *Program) checkStep(i int) error {
	s := &p.Steps[i]
	rest := len(p.Steps) - i - 1
	switch {
	case s.Result >= Registers:
		return fmt.Errorf("register %d", s.Result)
	case s.Store != 0 && int64(s.Store)+3 > int64(len(p.Data)):
		return fmt.Errorf("result stored at %d", s.Store-1)
	case len(s.Args) > MaxArgs:
		return fmt.Errorf("%d arguments", len(s.Args))
	case len(s.Fine) > MaxFine:
		return fmt.Errorf("%d fine errnos", len(s.Fine))
	case int(s.OnFine) > rest, int(s.OnOK) > rest:
		return fmt.Errorf("skips beyond the end")
	}
	for _, a := range s.Args {
		switch {
		case a.Kind > ArgReg,
			a.Kind == ArgData && a.Value >= uint64(len(p.Data)),
			a.Kind == ArgSlot && a.Value >= uint64(len(p.Slots)),
			a.Kind == ArgReg && a.Value >= Registers:
			return fmt.Errorf("argument of kind %d with value %d", a.Kind, a.Value)
		}
	}
	return nil
}
