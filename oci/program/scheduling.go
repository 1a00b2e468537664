package program

import (
	"encoding/binary"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// scheduling sets what the OCI spec can say of a process's scheduling, I/O priority, personality and
// memory policy. It takes the launcher's privilege, which the process still has.
func (b schedulingSteps) scheduling(p *specs.Process, linux *specs.Linux) {
	b.scheduler(p.Scheduler)
	b.ioPriority(p.IOPriority)
	if linux != nil {
		b.personality(linux.Personality)
		b.memoryPolicy(linux.MemoryPolicy)
	}
}

// Numbers of sched_setattr(2).
var (
	schedulerPolicies = map[specs.LinuxSchedulerPolicy]uint32{
		specs.SchedOther: unix.SCHED_NORMAL, specs.SchedFIFO: unix.SCHED_FIFO, specs.SchedRR: unix.SCHED_RR, specs.SchedBatch: unix.SCHED_BATCH,
		specs.SchedISO: 4, specs.SchedIdle: unix.SCHED_IDLE, specs.SchedDeadline: unix.SCHED_DEADLINE,
	}
	schedulerFlags = map[specs.LinuxSchedulerFlag]uint64{
		specs.SchedFlagResetOnFork: unix.SCHED_FLAG_RESET_ON_FORK, specs.SchedFlagReclaim: unix.SCHED_FLAG_RECLAIM,
		specs.SchedFlagDLOverrun: unix.SCHED_FLAG_DL_OVERRUN, specs.SchedFlagKeepPolicy: unix.SCHED_FLAG_KEEP_POLICY,
		specs.SchedFlagKeepParams: unix.SCHED_FLAG_KEEP_PARAMS, specs.SchedFlagUtilClampMin: unix.SCHED_FLAG_UTIL_CLAMP_MIN,
		specs.SchedFlagUtilClampMax: unix.SCHED_FLAG_UTIL_CLAMP_MAX,
	}
)

func (b schedulingSteps) scheduler(s *specs.Scheduler) {
	if s == nil {
		return
	}
	b.labelf("set scheduler %s", s.Policy)
	policy, ok := schedulerPolicies[s.Policy]
	if !ok {
		b.fail("scheduler policy %q: unknown", s.Policy)
	}
	var flagBits uint64
	for _, f := range s.Flags {
		bit, ok := schedulerFlags[f]
		if !ok {
			b.fail("scheduler flag %q: unknown", f)
		}
		flagBits |= bit
	}
	const size = 48 // struct sched_attr without the clamps, SCHED_ATTR_SIZE_VER0
	raw := binary.LittleEndian.AppendUint32(nil, size)
	raw = binary.LittleEndian.AppendUint32(raw, policy)
	raw = binary.LittleEndian.AppendUint64(raw, flagBits)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(s.Nice))
	raw = binary.LittleEndian.AppendUint32(raw, uint32(s.Priority))
	for _, ns := range []uint64{s.Runtime, s.Deadline, s.Period} {
		raw = binary.LittleEndian.AppendUint64(raw, ns)
	}
	text := string(s.Policy) + " nice " + strconv.Itoa(int(s.Nice)) + " priority " + strconv.Itoa(int(s.Priority))
	b.call(unix.SYS_SCHED_SETATTR, num(0), data(b.constant(string(raw), 8), text), num(0))
}

func (b schedulingSteps) ioPriority(io *specs.LinuxIOPriority) {
	if io == nil {
		return
	}
	b.labelf("set the I/O priority")
	classes := map[specs.IOPriorityClass]int64{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}
	class, ok := classes[io.Class]
	if !ok {
		b.fail("ioPriority class %q: unknown", io.Class)
	}
	if io.Priority < 0 || io.Priority > 7 {
		b.fail("ioPriority priority %d: not from 0 to 7", io.Priority)
	}
	const ioprioWhoProcess = 1
	b.call(unix.SYS_IOPRIO_SET, num(ioprioWhoProcess), num(0), num(class<<13|int64(io.Priority)))
}

// personality sets the execution domain (personality(2)).
func (b schedulingSteps) personality(p *specs.LinuxPersonality) {
	if p == nil {
		return
	}
	b.labelf("set personality %s", p.Domain)
	domains := map[specs.LinuxPersonalityDomain]uint64{specs.PerLinux: 0, specs.PerLinux32: 8}
	domain, ok := domains[p.Domain]
	if !ok {
		b.fail("personality domain %q: unknown", p.Domain)
	}
	if len(p.Flags) > 0 {
		b.fail("personality flag %q: none is supported", p.Flags[0])
	}
	b.call(unix.SYS_PERSONALITY, flags(domain, string(p.Domain)))
}

// Numbers of set_mempolicy(2).
var (
	memoryPolicies = map[specs.MemoryPolicyModeType]uint64{
		specs.MpolDefault: 0, specs.MpolPreferred: 1, specs.MpolBind: 2, specs.MpolInterleave: 3, specs.MpolLocal: 4,
		specs.MpolPreferredMany: 5, specs.MpolWeightedInterleave: 6,
	}
	memoryPolicyFlags = map[specs.MemoryPolicyFlagType]uint64{
		specs.MpolFStaticNodes: 1 << 15, specs.MpolFRelativeNodes: 1 << 14, specs.MpolFNumaBalancing: 1 << 13,
	}
)

func (b schedulingSteps) memoryPolicy(m *specs.LinuxMemoryPolicy) {
	if m == nil {
		return
	}
	b.labelf("set memory policy %s", m.Mode)
	mode, ok := memoryPolicies[m.Mode]
	if !ok {
		b.fail("memory policy %q: unknown", m.Mode)
	}
	for _, f := range m.Flags {
		bit, ok := memoryPolicyFlags[f]
		if !ok {
			b.fail("memory policy flag %q: unknown", f)
		}
		mode |= bit
	}
	if m.Nodes == "" {
		b.call(unix.SYS_SET_MEMPOLICY, flags(mode, string(m.Mode)), num(0), num(0))
		return
	}
	mask := b.mask("memory policy nodes", m.Nodes)
	// The kernel counts one bit more than it looks at (set_mempolicy(2), "maxnode").
	b.call(unix.SYS_SET_MEMPOLICY, flags(mode, string(m.Mode)), data(b.constant(string(mask), 8), m.Nodes), num(int64(8*len(mask)+1)))
}

// affinity binds the process to processors, as the spec lists them for the time before (initial) and
// after (final) it enters the container's cgroup.
func (b schedulingSteps) affinity(when, cpus string, fine ...syscall.Errno) {
	if cpus == "" {
		return
	}
	b.labelf("take the %s processors %s", when, cpus)
	mask := b.mask("execCPUAffinity "+when, cpus)
	b.call(unix.SYS_SCHED_SETAFFINITY, num(0), num(int64(len(mask))), data(b.constant(string(mask), 8), cpus)).fine(fine...)
}

// maxListed bounds the numbers of processors and memory nodes: more than any kernel is built for.
const maxListed = 1 << 13

// mask is the set that a list like "0-3,8" names, as the kernel takes it: words of 64 bits.
func (b schedulingSteps) mask(field, list string) []byte {
	var set [maxListed / 8]byte
	highest := 0
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			high = low
		}
		from, err1 := strconv.ParseUint(low, 10, 16)
		to, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || from > to || to >= maxListed {
			b.fail("%s %q: must be numbers and ranges of them, as 0-3,8", field, list)
			return make([]byte, 8)
		}
		for i := from; i <= to; i++ {
			set[i/8] |= 1 << (i % 8)
		}
		highest = max(highest, int(to))
	}
	return set[:(highest/64+1)*8]
}
