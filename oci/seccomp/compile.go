package seccomp

import (
	"fmt"
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Filter is what seccomp(SECCOMP_SET_MODE_FILTER) takes. It is shared by all who
// compile the same profile: nobody may change it.
type Filter struct {
	Program []unix.SockFilter
	Flags   uint32 // SECCOMP_FILTER_FLAG_…
	// Notify says that some call is referred to a listener (SCMP_ACT_NOTIFY): the
	// installer needs SECCOMP_FILTER_FLAG_NEW_LISTENER, and the descriptor goes to
	// the profile's ListenerPath.
	Notify bool
}

// Compile turns a profile into a filter for this machine; nil gives nil. Equal
// profiles are compiled once. Its errors are ErrInvalid, ErrTooLong and ErrUnsupported.
func Compile(profile *specs.LinuxSeccomp) (*Filter, error) {
	if profile == nil {
		return nil, nil
	}
	f, err := compiled.get(profile, func() (*Filter, error) { return compile(profile, family()) })
	if err == nil && f.Notify {
		err = checkListener(profile, family()[0])
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// compile turns a profile into a filter for a machine that runs fam.
func compile(profile *specs.LinuxSeccomp, fam []*arch) (*Filter, error) {
	if len(fam) == 0 {
		return nil, ErrUnsupported
	}
	arches, err := chosenArches(profile, fam)
	if err != nil {
		return nil, err
	}
	flags, err := flagBits(profile.Flags)
	if err != nil {
		return nil, err
	}
	byAudit := map[uint32][]span{}
	var audits []uint32
	for _, a := range arches {
		p, err := newPlan(profile, a)
		if err != nil {
			return nil, err
		}
		if byAudit[a.audit] == nil {
			audits = append(audits, a.audit)
		}
		byAudit[a.audit] = append(byAudit[a.audit], p.spans()...)
	}
	program := []unix.SockFilter{load(offArch)}
	for _, audit := range audits {
		body := searchNumber(closeX32(audit, byAudit[audit]))
		program = append(program, branch(unix.BPF_JEQ, audit, body)...)
	}
	program = append(program, give(killProcess))
	if len(program) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("%w: %d instructions, at most %d", ErrTooLong, len(program), unix.BPF_MAXINSNS)
	}
	f := &Filter{Program: program, Flags: flags, Notify: refers(program)}
	if !f.Notify {
		f.Flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV // says how a listener waits, and is EINVAL without one
	}
	return f, nil
}

// refers says whether a program returns SECCOMP_RET_USER_NOTIF.
func refers(program []unix.SockFilter) bool {
	return slices.ContainsFunc(program, func(i unix.SockFilter) bool {
		return i.Code == unix.BPF_RET|unix.BPF_K && i.K == unix.SECCOMP_RET_USER_NOTIF
	})
}

// span is a range of call numbers with the same fate, up to the next span.
type span struct {
	from  uint32
	wide  bool // arguments have 64 bits
	rules []rule
	ret   uint32
}

// spans lists the plan's verdicts as ranges, in order of their numbers.
func (p *plan) spans() []span {
	out := []span{{from: p.arch.base, ret: p.rest}}
	add := func(s span) {
		s.wide = p.arch.wide
		if last := len(out) - 1; out[last].from == s.from {
			out = out[:last]
		}
		out = append(out, s)
	}
	for _, number := range slices.Sorted(maps.Keys(p.verdicts)) {
		v := p.verdicts[number]
		add(span{from: number, rules: v.rules, ret: v.ret})
		add(span{from: number + 1, ret: p.rest})
	}
	if p.newer != p.rest {
		add(span{from: p.highest + 1, ret: p.newer})
	}
	return slices.CompactFunc(out, func(a, b span) bool { return len(a.rules) == 0 && len(b.rules) == 0 && a.ret == b.ret })
}

// closeX32 ends amd64's numbers where those of x32 begin: a profile that does not
// name x32 must not let the same calls in by their other number. The number -1,
// which is no call and a tracer's way to skip one, stays ENOSYS.
func closeX32(audit uint32, spans []span) []span {
	if audit != unix.AUDIT_ARCH_X86_64 {
		return spans
	}
	if !slices.ContainsFunc(spans, func(s span) bool { return s.from >= x32Bit }) {
		spans = append(spans, span{from: x32Bit, ret: killProcess})
	}
	return append(spans, span{from: ^uint32(0), ret: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
}

// searchNumber loads the number and finds its span.
func searchNumber(spans []span) []unix.SockFilter {
	return append([]unix.SockFilter{load(offNumber)}, search(spans)...)
}

// search is a balanced tree of comparisons over spans; the number is in the
// accumulator. Every leaf returns, so that no jump leaves its subtree.
func search(spans []span) []unix.SockFilter {
	if len(spans) == 1 {
		return leaf(spans[0])
	}
	middle := len(spans) / 2
	low, high := search(spans[:middle]), search(spans[middle:])
	// BPF jumps only forwards, and conditionally only by 255.
	return append(branch(unix.BPF_JGE, spans[middle].from, high), low...)
}

// branch runs body when the comparison with k holds, and goes on behind it
// otherwise. body must return.
func branch(comparison uint16, k uint32, body []unix.SockFilter) []unix.SockFilter {
	head := []unix.SockFilter{{Code: unix.BPF_JMP | comparison | unix.BPF_K, K: k, Jf: uint8(min(len(body), 255))}}
	if len(body) > 255 {
		head[0].Jf = 0
		head[0].Jt = 1
		head = append(head, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(body))})
	}
	return append(head, body...)
}

// leaf is the fate of one call, or of a range.
func leaf(s span) []unix.SockFilter {
	var out []unix.SockFilter
	for _, r := range s.rules {
		out = append(out, r.code(s.wide)...)
	}
	return append(out, give(s.ret))
}

// Offsets in struct seccomp_data, little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func give(ret uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: ret}
}
