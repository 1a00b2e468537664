package cgroup

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf/asm"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// access is one question to a device program.
type access struct {
	kind, bits   uint32
	major, minor uint32
}

// runProgram interprets the few instructions that deviceProgram uses.
func runProgram(t *testing.T, program asm.Instructions, a access) bool {
	t.Helper()
	labels := map[string]int{}
	for i, in := range program {
		if s := in.Symbol(); s != "" {
			labels[s] = i
		}
	}
	var r [11]uint64
	for pc, steps := 0, 0; steps < 1000; steps++ {
		in := program[pc]
		pc++
		imm := uint64(in.Constant)
		switch {
		case in.OpCode.Class() == asm.LdXClass:
			r[in.Dst] = uint64(map[int16]uint32{0: a.bits<<16 | a.kind, 4: a.major, 8: a.minor}[in.Offset])
		case in.OpCode.JumpOp() == asm.Exit && in.OpCode.Class().IsJump():
			return r[0] != 0
		case in.OpCode.Class().IsJump():
			taken := r[in.Dst] != imm
			if in.OpCode.JumpOp() == asm.JEq {
				taken = !taken
			} else if in.OpCode.JumpOp() != asm.JNE {
				t.Fatalf("unexpected jump %v", in)
			}
			if taken {
				at, ok := labels[in.Reference()]
				if !ok || at <= pc-1 {
					t.Fatalf("jump to %q from %d", in.Reference(), pc-1)
				}
				pc = at
			}
		case in.OpCode.ALUOp() == asm.Mov && in.OpCode.Source() == asm.RegSource:
			r[in.Dst] = uint64(uint32(r[in.Src]))
		case in.OpCode.ALUOp() == asm.Mov:
			r[in.Dst] = uint64(uint32(imm))
		case in.OpCode.ALUOp() == asm.And:
			r[in.Dst] = uint64(uint32(r[in.Dst]) & uint32(imm))
		case in.OpCode.ALUOp() == asm.RSh:
			r[in.Dst] = uint64(uint32(r[in.Dst]) >> imm)
		default:
			t.Fatalf("unexpected instruction %v", in)
		}
	}
	t.Fatal("the program does not end")
	return false
}

// allowed decides by the rules' text.
func allowed(rules []specs.LinuxDeviceCgroup, a access) bool {
	for i := len(rules) - 1; i >= 0; i-- {
		rule := rules[i]
		kinds := map[string]uint32{"c": unix.BPF_DEVCG_DEV_CHAR, "b": unix.BPF_DEVCG_DEV_BLOCK}
		if kind, ok := kinds[rule.Type]; ok && kind != a.kind {
			continue
		}
		if n := number(rule.Major); n >= 0 && uint32(n) != a.major {
			continue
		}
		if n := number(rule.Minor); n >= 0 && uint32(n) != a.minor {
			continue
		}
		bits := uint32(0)
		for _, c := range rule.Access {
			bits |= map[rune]uint32{'r': unix.BPF_DEVCG_ACC_READ, 'w': unix.BPF_DEVCG_ACC_WRITE, 'm': unix.BPF_DEVCG_ACC_MKNOD}[c]
		}
		if rule.Access == "" {
			bits = allAccess
		}
		if rule.Allow && a.bits&^bits == 0 || !rule.Allow && a.bits&bits != 0 {
			return rule.Allow
		}
	}
	return false
}

// reachable wants every instruction to be reachable: the kernel refuses others.
func reachable(t *testing.T, program asm.Instructions) {
	t.Helper()
	reached, labels := make([]bool, len(program)+1), map[string]int{}
	for i, in := range program {
		if s := in.Symbol(); s != "" {
			labels[s] = i
		}
	}
	reached[0] = true
	for i, in := range program {
		if !reached[i] {
			t.Fatalf("instruction %d of %d cannot be reached:\n%v", i, len(program), program)
		}
		if in.Reference() != "" {
			reached[labels[in.Reference()]] = true
		}
		if !in.OpCode.Class().IsJump() || in.OpCode.JumpOp() != asm.Exit {
			reached[i+1] = true
		}
	}
	if reached[len(program)] {
		t.Fatal("the program runs out at its end")
	}
}

func TestDeviceProgram(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	for range 300 {
		var rules []specs.LinuxDeviceCgroup
		for range 1 + r.IntN(8) {
			rules = append(rules, specs.LinuxDeviceCgroup{
				Allow: r.IntN(2) == 0, Type: pick("a", "c", "b", ""), Access: pick("r", "w", "m", "rw", "rwm", ""),
				Major: ptr(int64(r.IntN(4) - 1)), Minor: ptr(int64(r.IntN(4) - 1)),
			})
		}
		program, err := deviceProgram(rules)
		if err != nil {
			t.Fatal(err)
		}
		reachable(t, program)
		for range 200 {
			a := access{kind: uint32(1 + r.IntN(2)), bits: uint32(1 + r.IntN(7)), major: uint32(r.IntN(4)), minor: uint32(r.IntN(4))}
			if got, want := runProgram(t, program, a), allowed(rules, a); got != want {
				t.Fatalf("%+v: %v, want %v, by %+v", a, got, want, rules)
			}
		}
	}
}

func TestDeviceProgramBad(t *testing.T) {
	for _, rule := range []specs.LinuxDeviceCgroup{
		{Type: "x"}, {Type: "c", Access: "rx"}, {Type: "c", Major: ptr(int64(1) << 40)}, {Type: "c", Minor: ptr(int64(1) << 31)},
	} {
		if _, err := deviceProgram([]specs.LinuxDeviceCgroup{rule}); !errors.Is(err, ErrInvalidLimit) {
			t.Errorf("%+v: %v", rule, err)
		}
	}
}

func TestAllowsAll(t *testing.T) {
	everything := specs.LinuxDeviceCgroup{Allow: true, Type: "a", Access: "rwm", Major: ptr(int64(-1)), Minor: ptr(int64(-1))}
	for want, rules := range map[bool][]specs.LinuxDeviceCgroup{
		true:  {{Allow: false}, everything},
		false: {everything, {Allow: false, Type: "c", Access: "w"}},
	} {
		if got := allowsAll(rules); got != want {
			t.Errorf("%+v: %v", rules, got)
		}
	}
}
