package seccomp

import (
	"errors"
	"fmt"
	"math"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Errors of Compile.
var (
	ErrInvalid     = errors.New("invalid seccomp profile")
	ErrUnsupported = errors.New("seccomp profiles are not supported on this architecture")
	ErrTooLong     = errors.New("the seccomp profile needs a longer program than the kernel takes")
)

// killProcess is the return value for what must not happen at all.
const killProcess = uint32(unix.SECCOMP_RET_KILL_PROCESS)

// rule is a conditional rule for one call.
type rule struct {
	args []specs.LinuxSeccompArg // all must match
	ret  uint32
}

// verdict is what becomes of a call: the first matching rule's return value, or ret.
type verdict struct {
	rules   []rule
	ret     uint32
	decided bool // by a rule without arguments: no further rule counts
}

// plan is a profile resolved for one architecture.
type plan struct {
	arch     *arch
	verdicts map[uint32]*verdict // by number
	rest     uint32              // return value for all others …
	newer    uint32              // … and for those above
	named    bool                // the profile names a call …
	highest  uint32              // … and this is the highest number of those
}

// fate is an action with its errno, as a return value.
func fate(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		if *errno > math.MaxUint16 || action == specs.ActErrno && *errno > 4095 { // the kernel's MAX_ERRNO
			return 0, fmt.Errorf("%w: errno %d", ErrInvalid, *errno)
		}
		data = uint32(*errno)
	}
	switch action {
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	}
	if errno != nil && *errno != 0 {
		return 0, fmt.Errorf("%w: action %q takes no errno", ErrInvalid, action)
	}
	switch action {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return killProcess, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	default:
		return 0, fmt.Errorf("%w: action %q", ErrInvalid, action)
	}
}

// chosenArches are those of fam that the profile names, and the machine's own.
func chosenArches(profile *specs.LinuxSeccomp, fam []*arch) ([]*arch, error) {
	for _, name := range profile.Architectures {
		if !knownArches[name] {
			return nil, fmt.Errorf("%w: architecture %q", ErrInvalid, name)
		}
	}
	var out []*arch
	for i, a := range fam {
		if i == 0 || slices.Contains(profile.Architectures, a.name) {
			out = append(out, a)
		}
	}
	return out, nil
}

// newPlan resolves the profile for a.
func newPlan(profile *specs.LinuxSeccomp, a *arch) (*plan, error) {
	rest, err := fate(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("default action: %w", err)
	}
	p := &plan{arch: a, verdicts: map[uint32]*verdict{}, rest: rest, newer: rest}
	for i := range profile.Syscalls {
		if err := p.addRule(&profile.Syscalls[i]); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
	}
	if p.named && refuses(rest) {
		p.newer = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return p, nil
}

// refuses says whether a call with this return value is not made.
func refuses(ret uint32) bool {
	switch ret & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_USER_NOTIF:
		return false
	}
	return true
}

// addRule adds one entry of a profile for each of its names.
func (p *plan) addRule(s *specs.LinuxSyscall) error {
	ret, err := fate(s.Action, s.ErrnoRet)
	if err != nil {
		return err
	}
	if len(s.Names) == 0 {
		return fmt.Errorf("%w: no names", ErrInvalid)
	}
	rules, err := conditions(s.Args, ret)
	if err != nil {
		return err
	}
	for _, name := range s.Names {
		if number, ok := p.arch.calls()[name]; ok {
			p.named, p.highest = true, max(p.highest, number)
			p.decide(number, rules, ret)
		}
		if len(rules) > 0 {
			continue
		}
		for _, m := range p.arch.shared[name] {
			arg := specs.LinuxSeccompArg{Index: 0, Op: specs.OpEqualTo, Value: m.number}
			p.decide(p.arch.calls()[m.through], []rule{{args: []specs.LinuxSeccompArg{arg}, ret: ret}}, ret)
		}
	}
	return nil
}

// decide adds rules (none: one without arguments) to the verdict on a call.
func (p *plan) decide(number uint32, rules []rule, ret uint32) {
	if ret == p.rest {
		return
	}
	v := p.verdicts[number]
	if v == nil {
		v = &verdict{ret: p.rest}
		p.verdicts[number] = v
	}
	switch {
	case v.decided:
	case len(rules) == 0:
		*v = verdict{ret: ret, decided: true}
	default:
		v.rules = append(v.rules, rules...)
	}
}

// conditions turns the arguments of an entry into rules: one that wants all of
// them, or one for each if two are about the same argument.
func conditions(args []specs.LinuxSeccompArg, ret uint32) ([]rule, error) {
	if len(args) == 0 {
		return nil, nil
	}
	seen, twice := map[uint]bool{}, false
	for _, a := range args {
		if a.Index > 5 {
			return nil, fmt.Errorf("%w: argument index %d", ErrInvalid, a.Index)
		}
		switch a.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		default:
			return nil, fmt.Errorf("%w: operator %q", ErrInvalid, a.Op)
		}
		twice = twice || seen[a.Index]
		seen[a.Index] = true
	}
	if !twice {
		return []rule{{args: args, ret: ret}}, nil
	}
	var out []rule
	for i := range args {
		out = append(out, rule{args: args[i : i+1], ret: ret})
	}
	return out, nil
}

// flagBits are the flags of seccomp(2). TSYNC is taken and left out: the process
// has one thread.
func flagBits(flags []specs.LinuxSeccompFlag) (uint32, error) {
	if flags == nil {
		// As in runc: without it, kernels before 5.16 slow every process of the
		// container down, to no avail elsewhere (Speculative Store Bypass).
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	bits := uint32(0)
	for _, f := range flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			bits |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			bits |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			bits |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		case "SECCOMP_FILTER_FLAG_TSYNC":
		default:
			return 0, fmt.Errorf("%w: flag %q", ErrInvalid, f)
		}
	}
	return bits, nil
}
