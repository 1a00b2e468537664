package seccomp

import (
	"encoding/binary"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is what a filter sees: struct seccomp_data.
type call struct {
	audit  uint32
	number uint32
	args   [6]uint64
}

// machine runs a filter as the kernel would.
type machine struct{ vm *bpf.VM }

func newMachine(t testing.TB, program []unix.SockFilter) machine {
	t.Helper()
	if len(program) > unix.BPF_MAXINSNS {
		t.Fatalf("%d instructions", len(program))
	}
	code := make([]bpf.Instruction, len(program))
	for i, p := range program {
		code[i] = bpf.RawInstruction{Op: p.Code, Jt: p.Jt, Jf: p.Jf, K: p.K}.Disassemble()
		if _, raw := code[i].(bpf.RawInstruction); raw {
			t.Fatalf("instruction %d is none: %v", i, p)
		}
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	return machine{vm}
}

// run gives the filter's return value. The VM reads big-endian words where the
// kernel reads its own: each word is stored so that both see the same.
func (m machine) run(t testing.TB, c call) uint32 {
	t.Helper()
	var data []byte
	word := func(w uint32) { data = binary.BigEndian.AppendUint32(data, w) }
	word(c.number)
	word(c.audit)
	word(0) // instruction pointer
	word(0)
	for _, a := range c.args {
		word(uint32(a))
		word(uint32(a >> 32))
	}
	ret, err := m.vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(ret)
}

// meaning decides on a call by the text of the profile alone, call by call and
// rule by rule, with none of the compiler's steps.
func meaning(p *specs.LinuxSeccomp, a *arch, c call) uint32 {
	fallback, _ := fate(p.DefaultAction, p.DefaultErrnoRet)
	highest, named := uint32(0), false
	for _, s := range p.Syscalls {
		for _, name := range s.Names {
			if n, ok := a.calls()[name]; ok {
				highest, named = max(highest, n), true
			}
		}
	}
	conditional := fallback
	found := false
	for _, s := range p.Syscalls {
		ret, _ := fate(s.Action, s.ErrnoRet)
		if ret == fallback {
			continue
		}
		matches := meets(s.Args, c, a.wide)
		switch names(s, a, c) {
		case direct:
			if len(s.Args) == 0 {
				return ret
			}
		case through:
			matches = len(s.Args) == 0
		default:
			continue
		}
		if matches && !found {
			conditional, found = ret, true
		}
	}
	if !found && named && c.number > highest && refuses(fallback) {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return conditional
}

type naming int

const (
	not naming = iota
	direct
	through
)

// names says whether a rule is about a call: by its own number, or by a
// multiplexer's.
func names(s specs.LinuxSyscall, a *arch, c call) naming {
	for _, name := range s.Names {
		if n, ok := a.calls()[name]; ok && n == c.number {
			return direct
		}
	}
	for _, name := range s.Names {
		for _, m := range a.shared[name] {
			if a.calls()[m.through] == c.number && uint32(m.number) == uint32(c.args[0]) {
				return through
			}
		}
	}
	return not
}

func meets(args []specs.LinuxSeccompArg, c call, wide bool) bool {
	if len(args) == 0 {
		return true
	}
	hits, indexes := 0, map[uint]bool{}
	for _, a := range args {
		indexes[a.Index] = true
		x, v, w := c.args[a.Index], a.Value, a.ValueTwo
		if !wide {
			x, v, w = uint64(uint32(x)), uint64(uint32(v)), uint64(uint32(w))
		}
		if map[specs.LinuxSeccompOperator]bool{
			specs.OpEqualTo: x == v, specs.OpNotEqual: x != v, specs.OpLessThan: x < v, specs.OpLessEqual: x <= v,
			specs.OpGreaterThan: x > v, specs.OpGreaterEqual: x >= v, specs.OpMaskedEqual: x&v == w,
		}[a.Op] {
			hits++
		}
	}
	if len(indexes) < len(args) {
		return hits > 0
	}
	return hits == len(args)
}
