package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// floods is how many times each writes a hundred megabytes of log.
const floods = 5

// contest is one thing that two runtimes did in turns.
type contest struct {
	name          string
	berth, others []time.Duration
	atLeast       float64 // how many times as fast berth is to be; 0: no bound
}

// times is how many times as fast berth was.
func (c contest) times() float64 {
	if ours := percentile(c.berth, 50); ours > 0 {
		return float64(percentile(c.others, 50)) / float64(ours)
	}
	return 0
}

// compare has berth and containerd do the same in turns, on the node's network, prints the medians, and returns the exit code.
// What it does, and in which order the two come, changes nothing for either: each has its own of all but the machine.
func compare(b *bed, o options, before string) int {
	o.hostNet = true
	server := b.registry()
	berth, other := b.berth(o, server), b.containerd(o, server)
	for _, t := range []*target{berth, other} {
		t.warm(o)
	}
	b.progress("%d pods each, in turns", o.rounds)
	up, exec, down := contest{name: "RunPodSandbox + CreateContainer + StartContainer"}, contest{name: "ExecSync true"}, contest{name: "StopPodSandbox + RemovePodSandbox, grace 0"}
	for i := range o.rounds {
		a, c := berth.life(i), other.life(i)
		up.berth, exec.berth, down.berth = append(up.berth, a.up), append(exec.berth, a.exec), append(down.berth, a.down)
		up.others, exec.others, down.others = append(up.others, c.up), append(exec.others, c.exec), append(down.others, c.down)
	}
	b.progress("%d floods each, in turns", floods)
	lines := contest{name: "100 MB of one container's 100-byte lines, to its log", atLeast: 3}
	for i := range floods {
		lines.berth = append(lines.berth, berth.pour(2000+i))
		lines.others = append(lines.others, other.pour(2000+i))
	}
	all := []contest{up, exec, down, lines}
	fmt.Printf("load average before: %s, after: %s\n\n%s", before, loadAverage(), table(all))
	code := 0
	for _, c := range all {
		if c.times() < c.atLeast && o.check {
			fmt.Printf("\n%s: %.1f times as fast, at least %.0f are wanted\n", c.name, c.times(), c.atLeast)
			code = 1
		}
	}
	return code
}

// lived is what a pod's life took.
type lived struct{ up, exec, down time.Duration }

func (t *target) life(number int) lived {
	p, err := t.start(number)
	t.must("pod", err)
	exec, err := t.exec(p)
	t.must("pod", err)
	down, err := t.end(p)
	t.must("pod", err)
	return lived{p.up(), exec, down}
}

func table(all []contest) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "MEDIAN\tBERTH\tCONTAINERD\tTIMES AS FAST\tAT LEAST\t")
	for _, c := range all {
		bound := ""
		if c.atLeast > 0 {
			bound = fmt.Sprintf("%.0f", c.atLeast)
		}
		fmt.Fprintf(w, "%s\t%.2f ms\t%.2f ms\t%.1f\t%s\t\n", c.name, milliseconds(percentile(c.berth, 50)), milliseconds(percentile(c.others, 50)), c.times(), bound)
	}
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	return text.String()
}
