package sandbox

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/berth-runtime/berth/oci/cgroup"
)

const (
	// sampleAge is how old a sample may be when it is given again: several clients ask for the same at the same time.
	sampleAge = time.Second
	// youth is how long the time since a start is taken for the first sample's window.
	youth = time.Minute
)

// meter reads a cgroup (*cgroup.Meter).
type meter interface {
	Usage() (*cgroup.Usage, error)
	Detail() (*cgroup.Detail, error)
	Close()
}

// gauges are what measures running containers and ready pods. They are made when somebody asks first, hold files open,
// and go with what they measure.
type gauges struct {
	mu   sync.Mutex
	byID map[string]*gauge
	shut bool
}

// of finds a gauge, or makes it. lives says whether what it measures still lives: asked when the gauge can be found, so that
// either drop finds it, or lives says no.
func (x *gauges) of(id string, build func() *gauge, lives func() bool) (*gauge, error) {
	x.mu.Lock()
	g := x.byID[id]
	if g == nil && !x.shut {
		g = build()
		if x.byID == nil {
			x.byID = map[string]*gauge{}
		}
		x.byID[id] = g
		x.mu.Unlock()
		if lives() {
			return g, nil
		}
		x.drop(id)
		return nil, fmt.Errorf("%s has just ended: %w", id, ErrState)
	}
	x.mu.Unlock()
	if g == nil {
		return nil, ErrClosed
	}
	return g, nil
}

// drop closes the gauge of what doesn't live any more. It may be called for what has none.
func (x *gauges) drop(id string) {
	x.mu.Lock()
	g := x.byID[id]
	delete(x.byID, id)
	x.mu.Unlock()
	if g != nil {
		g.close()
	}
}

// close closes all, and lets none be made.
func (x *gauges) close() {
	x.mu.Lock()
	all := x.byID
	x.byID, x.shut = nil, true
	x.mu.Unlock()
	for _, g := range all {
		g.close()
	}
}

// gauge measures one container or pod.
type gauge struct {
	meter meter     // nil: a pod that has no cgroup of its own
	began time.Time // when what it measures did

	mu      sync.Mutex // held while it is measured: others wait for that sample
	last    *cgroup.Usage
	rate    *uint64
	netns   *os.File // opened at the first look
	network *NetworkStats
	closed  bool
}

func (g *gauge) close() {
	if g.meter != nil {
		g.meter.Close()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.netns != nil {
		g.netns.Close()
	}
}

// sample gives the last one if it is young, or takes another. The second value is the processors' use since the sample
// before, in billionths of one.
func (g *gauge) sample(now time.Time) (*cgroup.Usage, *uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last != nil && now.Sub(g.last.At) < sampleAge {
		return g.last, g.rate, nil
	}
	usage, err := g.meter.Usage()
	if err != nil {
		return nil, nil, err
	}
	g.rate = nanoCores(g.last, usage, g.began)
	g.last = usage
	return usage, g.rate, nil
}

// nanoCores is the use of processors between two samples. Before the second one, that since the start will do, if it was not
// long ago. It is nil when there is no window of a second, and when the count went backwards.
func nanoCores(before, now *cgroup.Usage, began time.Time) *uint64 {
	if now.CPU == nil {
		return nil
	}
	used, window := *now.CPU, now.At.Sub(began)
	switch {
	case before != nil && before.CPU != nil:
		if *before.CPU > used {
			return nil
		}
		used, window = used-*before.CPU, now.At.Sub(before.At)
	case began.IsZero() || window > youth:
		return nil
	}
	if window < sampleAge {
		return nil
	}
	rate := uint64(float64(used) / window.Seconds())
	return &rate
}

// interfaces counts what passed those of the network namespace at a path; "": none.
func (g *gauge) interfaces(h host, path string) (*NetworkStats, error) {
	if path == "" {
		return nil, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrState
	}
	now := time.Now()
	if g.network != nil && now.Sub(g.network.At) < sampleAge {
		return g.network, nil
	}
	if g.netns == nil {
		f, err := h.openNetNS(path)
		if err != nil {
			return nil, err
		}
		g.netns = f
	}
	all, err := h.counters(g.netns)
	if err != nil {
		return nil, err
	}
	g.network = split(all, now)
	return g.network, nil
}
