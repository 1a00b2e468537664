package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/oci/program"
)

// Moment is one thing that was done while a pod or container was brought up.
type Moment struct {
	What string        `json:"what"`
	At   time.Duration `json:"at"` // since the beginning
	Took time.Duration `json:"took"`
}

// stopwatch notes what is done while a pod or container is brought up. Several goroutines may use it at once. The nil one
// notes nothing.
type stopwatch struct {
	began int64 // as launch.Now
	at    time.Time

	mu       sync.Mutex
	laps     []lap
	launches []timedLaunch
}

// lap is from when to when something was done, as launch.Now.
type lap struct {
	what     string
	from, to int64
}

// timedLaunch is a launch, as the keeper and the child noted it. Its steps become laps when somebody asks.
type timedLaunch struct {
	program       *program.Program
	times         *launch.Times
	ordered, done int64 // in the daemon
}

func startWatch() *stopwatch { return &stopwatch{began: launch.Now(), at: time.Now()} }

// lap notes something whose end is when the returned function is called.
func (w *stopwatch) lap(what string) (end func()) {
	if w == nil {
		return func() {}
	}
	from := launch.Now()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.laps = append(w.laps, lap{what, from, launch.Now()})
	}
}

// launched notes a launch, the steps of its program included.
func (w *stopwatch) launched(l timedLaunch) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.launches = append(w.launches, l)
}

// timeline is what was noted so far, in the order in which it began.
func (w *stopwatch) timeline() []Moment {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	laps := slices.Clone(w.laps)
	for _, l := range w.launches {
		laps = append(laps, l.laps()...)
	}
	w.mu.Unlock()
	// What contains others stands before them.
	slices.SortStableFunc(laps, func(a, b lap) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	out := make([]Moment, len(laps))
	for i, l := range laps {
		out[i] = Moment{l.what, time.Duration(l.from - w.began), time.Duration(l.to - l.from)}
	}
	return out
}

// laps are those of a launch. Steps that do one thing together are one.
func (l timedLaunch) laps() []lap {
	t := l.times
	if t == nil {
		return []lap{{"run the launch program", l.ordered, l.done}}
	}
	first := t.Done
	var out []lap
	for i, at := range t.Steps {
		if at == 0 {
			continue
		}
		label := l.program.Label(i)
		if n := len(out); n == 0 || out[n-1].what != label {
			out = append(out, lap{label, at, at})
		}
		out[len(out)-1].to = stepEnd(t, i)
		first = min(first, at)
	}
	before := []lap{
		{"hand the program to the keeper", l.ordered, t.Ordered},
		{"fork", t.Ordered, t.Begun},
		{"leave the parent's descriptors", t.Begun, first},
	}
	return append(append(before, out...), lap{"tell the daemon", t.Done, l.done})
}

// stepEnd is when the next step that was timed began.
func stepEnd(t *launch.Times, step int) int64 {
	for _, at := range t.Steps[step+1:] {
		if at != 0 {
			return at
		}
	}
	return t.Done
}

// text is the program, with when each step began and how long it took, in microseconds, since a moment of launch.Now.
func (l timedLaunch) text(since int64) string {
	t := l.times
	if t == nil {
		return l.program.String()
	}
	return l.program.Annotate(func(step int) string {
		if step >= len(t.Steps) || t.Steps[step] == 0 {
			return fmt.Sprintf("%9s %8s  ", "", "-")
		}
		at := t.Steps[step]
		return fmt.Sprintf("%9.1f %8.1f  ", micros(time.Duration(at-since)), micros(time.Duration(stepEnd(t, step)-at)))
	})
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// timelineText is a timeline as people read it.
func timelineText(title string, moments []Moment) string {
	if len(moments) == 0 {
		return ""
	}
	var w strings.Builder
	fmt.Fprintf(&w, "%s: when each thing began, and how long it took, in microseconds\n", title)
	for _, m := range moments {
		fmt.Fprintf(&w, "%9.1f %8.1f  %s\n", micros(m.At), micros(m.Took), m.What)
	}
	return w.String()
}
