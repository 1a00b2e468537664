package seccomp

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// block is code under construction: jumps to miss (the next rule) are filled in
// at the end, when the length is known.
type block struct {
	code   []unix.SockFilter
	misses []miss
}

// miss is one branch of the instruction at index at.
type miss struct {
	at     int
	onTrue bool
}

// code returns ret if all arguments match, and falls through to what follows
// otherwise. Six arguments need at most 31 instructions: jumps stay short.
func (r rule) code(wide bool) []unix.SockFilter {
	var b block
	for _, a := range r.args {
		b.compare(a, wide)
	}
	b.code = append(b.code, give(r.ret))
	for _, m := range b.misses {
		distance := uint8(len(b.code) - m.at - 1)
		if m.onTrue {
			b.code[m.at].Jt = distance
		} else {
			b.code[m.at].Jf = distance
		}
	}
	return b.code
}

// jump adds a comparison of the accumulator with k. Branches that are not given
// fall through; skip counts instructions.
func (b *block) jump(comparison uint16, k uint32, skipTrue, skipFalse uint8) {
	b.code = append(b.code, unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, K: k, Jt: skipTrue, Jf: skipFalse})
}

// missIf adds a comparison that leads to the next rule when its outcome is when.
func (b *block) missIf(comparison uint16, k uint32, when bool) {
	b.misses = append(b.misses, miss{at: len(b.code), onTrue: when})
	b.jump(comparison, k, 0, 0)
}

func (b *block) load(offset uint32) { b.code = append(b.code, load(offset)) }

func (b *block) and(mask uint32) {
	b.code = append(b.code, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
}

// compare adds the code for one argument. BPF compares 32 bits at a time: the
// high half decides unless it is equal. Where arguments have 32 bits only, the
// low half is all there is, of the profile's values too.
func (b *block) compare(a specs.LinuxSeccompArg, wide bool) {
	low := uint32(offArgs + 8*a.Index)
	high := low + 4
	lowValue, highValue := uint32(a.Value), uint32(a.Value>>32)
	switch a.Op {
	case specs.OpMaskedEqual:
		if wide {
			b.load(high)
			b.and(highValue)
			b.missIf(unix.BPF_JEQ, uint32(a.ValueTwo>>32), false)
		}
		b.load(low)
		b.and(lowValue)
		b.missIf(unix.BPF_JEQ, uint32(a.ValueTwo), false)
	case specs.OpEqualTo:
		if wide {
			b.load(high)
			b.missIf(unix.BPF_JEQ, highValue, false)
		}
		b.load(low)
		b.missIf(unix.BPF_JEQ, lowValue, false)
	case specs.OpNotEqual:
		if wide {
			b.load(high)
			b.jump(unix.BPF_JEQ, highValue, 0, 2) // different: match
		}
		b.load(low)
		b.missIf(unix.BPF_JEQ, lowValue, true)
	case specs.OpGreaterEqual, specs.OpGreaterThan:
		if wide {
			b.load(high)
			b.jump(unix.BPF_JGT, highValue, 3, 0) // greater: match
			b.missIf(unix.BPF_JEQ, highValue, false)
		}
		b.load(low)
		b.missIf(ordering(a.Op), lowValue, false)
	case specs.OpLessEqual, specs.OpLessThan:
		if wide {
			b.load(high)
			b.missIf(unix.BPF_JGT, highValue, true)
			b.jump(unix.BPF_JEQ, highValue, 0, 2) // less: match
		}
		b.load(low)
		b.missIf(ordering(a.Op), lowValue, true)
	}
}

// ordering is the comparison of low halves: > for GT and (negated) LE, >= for GE
// and (negated) LT.
func ordering(op specs.LinuxSeccompOperator) uint16 {
	if op == specs.OpGreaterThan || op == specs.OpLessEqual {
		return unix.BPF_JGT
	}
	return unix.BPF_JGE
}
