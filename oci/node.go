package oci

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/berth-runtime/berth/oci/program"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Node is what this node grants to containers, found out once. It may be used by several goroutines.
type Node struct {
	lastCap     int
	caps        map[string]bool // what the daemon has, "CAP_CHOWN"
	hierarchies []string        // cgroup v1: "memory", "cpu,cpuacct", "name=systemd"
	oomScore    int             // the daemon's own oom_score_adj
	warn        func(string)

	mu     sync.Mutex
	warned map[string]bool
}

// Probe looks at the node. warn is called once for each thing that had to be clamped, with a text that
// names it.
func Probe(warn func(string)) (*Node, error) {
	n := &Node{warn: warn, warned: map[string]bool{}, caps: map[string]bool{}}
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return nil, fmt.Errorf("probe capabilities: %w", err)
	}
	if n.lastCap, err = strconv.Atoi(strings.TrimSpace(string(last))); err != nil {
		return nil, fmt.Errorf("probe capabilities: %w", err)
	}
	own, err := capability.NewPid2(0)
	if err == nil {
		err = own.Load()
	}
	if err != nil {
		return nil, fmt.Errorf("probe own capabilities: %w", err)
	}
	for _, c := range capability.ListKnown() {
		n.caps["CAP_"+strings.ToUpper(c.String())] = own.Get(capability.PERMITTED, c)
	}
	if n.hierarchies, err = hierarchies(); err != nil {
		return nil, err
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return nil, fmt.Errorf("probe oom_score_adj: %w", err)
	}
	if n.oomScore, err = strconv.Atoi(strings.TrimSpace(string(score))); err != nil {
		return nil, fmt.Errorf("probe oom_score_adj: %w", err)
	}
	return n, nil
}

// hierarchies lists the cgroup v1 hierarchies of the node, as /proc/self/cgroup names them.
func hierarchies() ([]string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("probe cgroup hierarchies: %w", err)
	}
	var out []string
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		if parts := strings.SplitN(line, ":", 3); len(parts) == 3 && parts[1] != "" {
			out = append(out, parts[1])
		}
	}
	slices.Sort(out)
	return out, nil
}

func (n *Node) clamped(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.warned[text] {
		n.warned[text] = true
		n.warn(text)
	}
}

// clamp returns a copy of the process that asks for nothing that this node refuses.
//
// A process in a user namespace never has the right to raise a limit of its own (setrlimit(2): that is
// CAP_SYS_RESOURCE in the initial one), and its limits are set when it is in there.
func (n *Node) clamp(p *specs.Process, inUserNamespace bool) *specs.Process {
	c := *p
	if p.Capabilities != nil {
		c.Capabilities = &specs.LinuxCapabilities{
			Bounding: n.granted(p.Capabilities.Bounding), Effective: n.granted(p.Capabilities.Effective),
			Permitted: n.granted(p.Capabilities.Permitted), Inheritable: n.granted(p.Capabilities.Inheritable),
			Ambient: n.granted(p.Capabilities.Ambient),
		}
	}
	c.Rlimits = withFiles(p.Rlimits)
	if n.caps["CAP_SYS_RESOURCE"] && !inUserNamespace {
		return &c
	}
	for i := range c.Rlimits {
		n.clampLimit(&c.Rlimits[i])
	}
	if n.caps["CAP_SYS_RESOURCE"] {
		return &c
	}
	if p.OOMScoreAdj != nil && *p.OOMScoreAdj < n.oomScore {
		n.clamped("oom_score_adj below %d", n.oomScore)
		c.OOMScoreAdj = &n.oomScore
	}
	return &c
}

// softFiles is how many files a process may open that nothing else is said of: what the kernel and
// systemd start processes with, and programs that use select(2) can bear.
const softFiles = 1024

// withFiles returns a copy of the limits that has one of open files. Go programs raise their own soft
// limit to the hard one when they start, and a forked child would keep that.
func withFiles(limits []specs.POSIXRlimit) []specs.POSIXRlimit {
	out := slices.Clone(limits)
	for _, l := range limits {
		if l.Type == "RLIMIT_NOFILE" {
			return out
		}
	}
	var own unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &own); err != nil {
		return out // never, for one's own limits (getrlimit(2)); then the process has the launcher's
	}
	return append(out, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: min(softFiles, own.Max), Hard: own.Max})
}

func (n *Node) granted(caps []string) []string {
	var out []string
	for _, c := range caps {
		if has, known := n.caps[c]; has || !known {
			out = append(out, c) // unknown ones are for the compiler to refuse
		} else {
			n.clamped("%s", c)
		}
	}
	return out
}

// KnownRlimit says whether there is a resource of that OCI name ("RLIMIT_NOFILE").
func KnownRlimit(name string) bool {
	_, ok := program.Rlimit(name)
	return ok
}

func (n *Node) clampLimit(l *specs.POSIXRlimit) {
	res, ok := program.Rlimit(l.Type)
	if !ok {
		return // for the compiler to refuse
	}
	var own unix.Rlimit
	if err := unix.Prlimit(0, res, nil, &own); err != nil || l.Hard <= own.Max {
		return
	}
	n.clamped("%s above %d", l.Type, own.Max)
	l.Hard = own.Max
	l.Soft = min(l.Soft, l.Hard)
}

// StepError is a launch that stopped at a step: what the step does, for people, and why.
type StepError struct {
	Label string
	Errno error
	Fault program.Fault
}

func (e *StepError) Error() string { return e.Label + ": " + e.Errno.Error() }

// Unwrap returns the errno.
func (e *StepError) Unwrap() error { return e.Errno }

var errNoFile = errors.New("no file for it")
