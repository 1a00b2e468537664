// Command bench measures a node runtime by CRI calls alone: the median and the 95th
// percentile of a pod's start, of an exec and of a pod's end, pods a second, and the
// memory of the runtime's own processes with many pods.
//
// Without -endpoint it runs a berth of its own (as root, from bin/) and also measures
// how long that takes to start. With it, it measures whatever serves CRI there; the
// image must be there, or where that runtime can pull it from.
//
// With -pulls it has berth and a containerd of its own pull a large image by turns instead.
//
// The figures of a busy machine say little: the load average stands above and below
// them. -check makes it fail when a figure is over its bound times -slack.
//
// -compare says more there: a berth and a containerd, both its own, do the same in turns, and the quotient of the
// medians counts.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/berth-runtime/berth/test/images"
)

// options are the command line.
type options struct {
	endpoint  string
	image     string
	processes string
	hostNet   bool
	rounds    int
	pods      int
	parallel  int
	restarts  int
	pulls     int
	lives     bool
	check     bool
	compare   bool
	slack     float64
}

func main() {
	var o options
	flag.StringVar(&o.endpoint, "endpoint", "", "`socket` of the runtime, as unix:///run/berth/berth.sock (default: a berth of its own)")
	flag.StringVar(&o.image, "image", images.Busybox, "`reference` of an image with sleep and true")
	flag.StringVar(&o.processes, "processes", "berth,berth-keeper,berth-zygote", "`names` of the runtime's processes, when -endpoint is given")
	flag.BoolVar(&o.hostNet, "host-network", false, "run the pods on the node's network")
	flag.IntVar(&o.rounds, "rounds", 50, "`pods` that are run one after the other")
	flag.IntVar(&o.pods, "pods", 50, "`pods` that are there at once")
	flag.IntVar(&o.parallel, "parallel", 10, "`pods` that are started at once")
	flag.IntVar(&o.restarts, "restarts", 10, "`times` that the daemon is started, with pods and without")
	flag.BoolVar(&o.compare, "compare", false, "run a containerd beside berth, take turns, and print how many times as fast berth is")
	flag.IntVar(&o.pulls, "pulls", 0, "only pull a large image, so many `times` by berth and by containerd")
	flag.BoolVar(&o.lives, "lives", false, "measure only the pods that are run one after the other")
	flag.BoolVar(&o.check, "check", false, "fail when a figure is over its bound")
	flag.Float64Var(&o.slack, "slack", 1, "`factor` on every bound")
	flag.Parse()
	debug.SetGCPercent(400) // it holds a registry's images, and its own garbage is not to be measured
	if o.pulls > 0 && os.Getenv(aloneEnv) == "" {
		os.Exit(alone())
	}
	os.Exit(run(o))
}

// run measures everything and returns the exit code.
func run(o options) int {
	b := newBed(context.Background())
	code := 0
	b.protect(func() {
		before := loadAverage()
		if o.compare {
			code = compare(b, o, before)
			return
		}
		r := &report{slack: o.slack}
		if o.pulls > 0 {
			pulls(b, o, r)
		} else {
			measure(b, o, r)
		}
		fmt.Printf("load average before: %s, after: %s\n\n%s", before, loadAverage(), r)
		if over := r.over(); o.check && len(over) > 0 {
			fmt.Printf("\nover the bound: %s\n", strings.Join(over, ", "))
			code = 1
		}
	})
	b.close()
	if b.Failed() {
		return 1
	}
	return code
}

func measure(b *bed, o options, r *report) {
	t := b.target(o)
	start := time.Now()
	t.warm(o)
	b.progress("warm after %v; %d pods one after the other", time.Since(start).Round(time.Millisecond), o.rounds)
	lives(t, o, r)
	if o.lives {
		return
	}
	empty := t.memory(b)
	b.progress("%d pods, %d at a time", o.pods, o.parallel)
	pods := crowd(t, o, r)
	full := t.memory(b)
	footprint(r, empty, full, o.pods)
	b.progress("lists and statistics")
	reads(t, pods, r)
	if t.daemon != nil && o.restarts > 0 {
		b.progress("%d starts of the daemon with %d pods, %[1]d without", o.restarts, o.pods)
		starts(t, o, r, "daemon start to first Version, "+fmt.Sprint(o.pods)+" pods", 100)
	}
	t.clear(pods, o)
	if t.daemon != nil && o.restarts > 0 {
		starts(t, o, r, "daemon start to first Version, no pods", 60)
	}
	b.progress("logs")
	logs(t, r)
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
