package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// interesting are values around which comparisons go wrong.
var interesting = []uint64{0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x100000001, 0x1ffffffff, 0x7fffffffffffffff, 0x8000000000000000, ^uint64(0), ^uint64(0) - 1, 0x7e020000}

func value(r *rand.Rand) uint64 {
	v := interesting[r.IntN(len(interesting))]
	switch r.IntN(6) {
	case 0:
		v++
	case 1:
		v = r.Uint64()
	}
	return v
}

// randomProfile makes a profile of a few rules over a few calls, so that they
// meet; some have names and arguments that are all over the place.
func randomProfile(r *rand.Rand, fam []*arch) *specs.LinuxSeccomp {
	actions := []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActTrap, specs.ActTrace, specs.ActLog, specs.ActNotify,
	}
	operators := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual,
	}
	all := slices.Sorted(maps.Keys(fam[r.IntN(len(fam))].calls()))
	pool := []string{"read", "write", "socket", "socketcall", "shmat", "ipc", "clone", "no_such_call", all[r.IntN(len(all))], all[r.IntN(len(all))]}
	p := &specs.LinuxSeccomp{DefaultAction: actions[r.IntN(len(actions))]}
	for _, a := range fam {
		if r.IntN(2) == 0 {
			p.Architectures = append(p.Architectures, a.name)
		}
	}
	for range r.IntN(12) {
		s := specs.LinuxSyscall{Action: actions[r.IntN(len(actions))]}
		if errno := uint(r.IntN(200)); s.Action == specs.ActErrno || s.Action == specs.ActTrace {
			s.ErrnoRet = &errno
		}
		for range 1 + r.IntN(3) {
			s.Names = append(s.Names, pool[r.IntN(len(pool))])
		}
		if r.IntN(30) == 0 {
			s.Names = append(s.Names, all...) // a long program, with far jumps
		}
		for range r.IntN(4) {
			s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(r.IntN(6)), Op: operators[r.IntN(len(operators))], Value: value(r), ValueTwo: value(r)})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

// numbers are all that a's table has, and their surroundings.
func numbers(a *arch) []uint32 {
	out := []uint32{a.base, a.base + 1000, a.base + 0x3fffffff}
	for _, n := range a.calls() {
		out = append(out, n, n+1)
	}
	return out
}

// expected is what a filter must return, with the rules that no profile states.
func expected(p *specs.LinuxSeccomp, fam []*arch, a *arch, c call) uint32 {
	if c.number == ^uint32(0) && a.audit == unix.AUDIT_ARCH_X86_64 {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	if a != fam[0] && !slices.Contains(p.Architectures, a.name) {
		return killProcess
	}
	return meaning(p, a, c)
}

// TestMeaning compares compiled programs with the meaning of random profiles,
// for every call of every architecture and random arguments.
func TestMeaning(t *testing.T) {
	for goarch, fam := range families {
		t.Run(goarch, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(len(fam))))
			for i := range 60 {
				p := randomProfile(r, fam)
				f, err := compile(p, fam)
				if errors.Is(err, ErrTooLong) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				compare(t, r, p, fam, f, i)
				if t.Failed() {
					text, _ := json.Marshal(p)
					t.Fatalf("profile %d: %s", i, text)
				}
			}
		})
	}
}

func compare(t *testing.T, r *rand.Rand, p *specs.LinuxSeccomp, fam []*arch, f *Filter, seed int) {
	t.Helper()
	m := newMachine(t, f.Program)
	for _, a := range fam {
		list := numbers(a)
		for _, s := range p.Syscalls { // more of the calls that rules are about
			for _, name := range s.Names[:min(3, len(s.Names))] {
				for range 5 {
					list = append(list, a.calls()[name]|a.base)
				}
			}
		}
		for _, n := range list {
			c := call{audit: a.audit, number: n, args: [6]uint64{value(r), value(r), value(r), value(r), value(r), value(r)}}
			if r.IntN(4) == 0 {
				c.args[0] = r.Uint64N(30)
			}
			if got, want := m.run(t, c), expected(p, fam, a, c); got != want {
				t.Errorf("profile %d: %s call %d args %#x: returns %#x, want %#x", seed, a.name, n, c.args, got, want)
				return
			}
		}
	}
	if got := m.run(t, call{audit: unix.AUDIT_ARCH_SPARC, number: 1}); got != killProcess {
		t.Errorf("a foreign architecture returns %#x", got)
	}
}

// TestFarJumps: rules for every second call, each with six arguments, make
// subtrees that are longer than a conditional jump reaches.
func TestFarJumps(t *testing.T) {
	fam := families["arm64"][:1]
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	all := slices.Sorted(maps.Keys(fam[0].calls()))
	for i, name := range all[:len(all)/2] {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
			{Index: 0, Op: specs.OpEqualTo, Value: uint64(i)}, {Index: 1, Op: specs.OpLessEqual, Value: 1 << 33}, {Index: 2, Op: specs.OpNotEqual, Value: 5},
		}})
	}
	f, err := compile(p, fam)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, f.Program)
	for i, name := range all[:len(all)/2] {
		for _, arg := range []uint64{uint64(i), uint64(i) + 1} {
			c := call{audit: fam[0].audit, number: fam[0].calls()[name], args: [6]uint64{arg, 7}}
			if got, want := m.run(t, c), meaning(p, fam[0], c); got != want {
				t.Errorf("%s(%d): %#x, want %#x", name, arg, got, want)
			}
		}
	}
	t.Log(len(f.Program), "instructions")
}

func TestTooLong(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(1000) {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Value: i}}})
	}
	if _, err := compile(p, families["amd64"]); !errors.Is(err, ErrTooLong) {
		t.Errorf("error is %v", err)
	}
}

func TestInvalid(t *testing.T) {
	errno, huge := uint(1), uint(5000)
	good := specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow}
	for name, p := range map[string]specs.LinuxSeccomp{
		"no default action":   {},
		"unknown action":      {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: "SCMP_ACT_MAYBE"}}},
		"unknown arch":        {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_VAX"}},
		"unknown flag":        {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_FAST"}},
		"no names":            {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Action: specs.ActErrno}}},
		"errno with allow":    {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, ErrnoRet: &errno}}},
		"errno too high":      {DefaultAction: specs.ActErrno, DefaultErrnoRet: &huge, Syscalls: []specs.LinuxSyscall{good}},
		"argument 6":          {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
		"unknown operator":    {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "=="}}}}},
		"default errno, kill": {DefaultAction: specs.ActKill, DefaultErrnoRet: &errno},
	} {
		if _, err := compile(&p, families["amd64"]); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if _, err := compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no architecture: %v", err)
	}
	if f, err := Compile(nil); f != nil || err != nil {
		t.Errorf("nil profile: %v, %v", f, err)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		flags []specs.LinuxSeccompFlag
		want  uint32
	}{
		{nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{[]specs.LinuxSeccompFlag{}, 0},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, "SECCOMP_FILTER_FLAG_TSYNC"}, unix.SECCOMP_FILTER_FLAG_LOG},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv}, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	} {
		f, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: c.flags})
		if err != nil || f.Flags != c.want {
			t.Errorf("%v: %+v, %v", c.flags, f, err)
		}
	}
}

func TestNotify(t *testing.T) {
	for action, want := range map[specs.LinuxSeccompAction]bool{specs.ActNotify: true, specs.ActErrno: false} {
		f, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: action}}})
		if err != nil || f.Notify != want {
			t.Errorf("%s: %v, %v", action, f, err)
		}
	}
}

func TestWaitKillable(t *testing.T) {
	f, err := Compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}, ListenerPath: "/x",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActNotify}},
	})
	if err != nil || f.Flags != unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestListener: what refers calls to a listener must name it, and let the
// descriptor out.
func TestListener(t *testing.T) {
	notify := func(names ...string) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActNotify}
	}
	allow := func(args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{HandOver}, Action: specs.ActAllow, Args: args}
	}
	first := specs.LinuxSeccompArg{Index: 0, Op: specs.OpEqualTo, Value: 3}
	for name, c := range map[string]struct {
		profile specs.LinuxSeccomp
		good    bool
	}{
		"allowed by default":      {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{notify("mount")}}, true},
		"allowed by name":         {specs.LinuxSeccomp{DefaultAction: specs.ActErrno, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{notify("mount"), allow()}}, true},
		"no path":                 {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{notify("mount")}}, false},
		"relative path":           {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "x", Syscalls: []specs.LinuxSyscall{notify("mount")}}, false},
		"notifies by default":     {specs.LinuxSeccomp{DefaultAction: specs.ActNotify, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{allow()}}, false},
		"hand-over refused":       {specs.LinuxSeccomp{DefaultAction: specs.ActErrno, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{notify("mount")}}, false},
		"hand-over referred":      {specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{notify("mount", HandOver)}}, false},
		"hand-over of some only":  {specs.LinuxSeccomp{DefaultAction: specs.ActErrno, ListenerPath: "/x", Syscalls: []specs.LinuxSyscall{notify("mount"), allow(first)}}, false},
		"listener that is unused": {specs.LinuxSeccomp{DefaultAction: specs.ActErrno, ListenerPath: "x"}, true},
	} {
		if _, err := Compile(&c.profile); (err == nil) != c.good || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCache(t *testing.T) {
	profile := func(name string, flags []specs.LinuxSeccompFlag) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: flags, Syscalls: []specs.LinuxSyscall{{Names: []string{name}, Action: specs.ActErrno}}}
	}
	c := newLRU(2)
	built := 0
	get := func(p *specs.LinuxSeccomp) *Filter {
		f, err := c.get(p, func() (*Filter, error) { built++; return compile(p, families["amd64"]) })
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := get(profile("read", nil))
	if get(profile("read", nil)) != first || built != 1 {
		t.Error("an equal profile was compiled again")
	}
	if get(profile("read", []specs.LinuxSeccompFlag{})) == first {
		t.Error("no flags and an empty list of flags are the same")
	}
	get(profile("read", nil))
	get(profile("write", nil)) // pushes the empty list out, as the older one
	built = 0
	if get(profile("read", nil)); built != 0 {
		t.Error("the one used lately was forgotten")
	}
	if get(profile("read", []specs.LinuxSeccompFlag{})); built != 1 {
		t.Error("more is kept than the bound")
	}
	if _, err := c.get(profile("open", nil), func() (*Filter, error) { return nil, ErrInvalid }); err == nil {
		t.Error("no error")
	}
}

// TestTables holds the generated numbers against the constants that this test
// is compiled with.
func TestTables(t *testing.T) {
	own := family()[0].calls()
	for name, want := range map[string]uint32{
		"read": unix.SYS_READ, "execve": unix.SYS_EXECVE, "openat2": unix.SYS_OPENAT2, "clone3": unix.SYS_CLONE3, "mseal": unix.SYS_MSEAL,
	} {
		if own[name] != want {
			t.Errorf("%s is %d, want %d", name, own[name], want)
		}
	}
	for a, calls := range map[*arch]map[string]uint32{
		archX32: {"read": x32Bit, "execve": x32Bit | 520, "pwritev2": x32Bit | 547, "openat2": x32Bit | 437},
		arch386: {"socketcall": 102, "ipc": 117, "clock_gettime64": 403, "_llseek": 140},
		archARM: {"set_tls": 0x0f0005, "arm_fadvise64_64": 270},
	} {
		for name, want := range calls {
			if got := a.calls()[name]; got != want {
				t.Errorf("%s %s is %d, want %d", a.name, name, got, want)
			}
		}
	}
	for _, fam := range families {
		for _, a := range fam {
			for name, list := range a.shared {
				if _, ok := a.calls()[list[0].through]; !ok {
					t.Errorf("%s: %s is reached through %s, which has no number", a.name, name, list[0].through)
				}
			}
		}
	}
}

func ExampleCompile() {
	f, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow})
	fmt.Println(f != nil, err)
	// Output: true <nil>
}
