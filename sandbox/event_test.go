package sandbox

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// listen collects events until the test ends; said returns them as text, with short names for ids.
func (d *daemon) listen(f func(*Event) error) (failed <-chan error) {
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan error, 1)
	listeners := len(d.m.events.all())
	go func() { done <- d.m.Events(ctx, f) }() // ends with the test
	d.t.Cleanup(cancel)
	d.eventually("it listens", func() error {
		if len(d.m.events.all()) == listeners {
			return errors.New("not yet")
		}
		return nil
	})
	return done
}

func (e *events) all() []*listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*listener
	for l := range e.listeners {
		out = append(out, l)
	}
	return out
}

// hearer is a listener that keeps what it gets.
type hearer struct {
	mu     sync.Mutex
	events []*Event
}

func (c *hearer) take(e *Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
	return nil
}

func (c *hearer) all() []*Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

func TestEventsBetween(t *testing.T) {
	const created, started, stopped, deleted = EventCreated, EventStarted, EventStopped, EventDeleted
	phases := []phase{phaseUnseen, phaseIdle, phaseRunning, phaseOver}
	for from, want := range [][][]EventKind{
		{nil, {created}, {created, started}, {created, stopped}}, // unseen
		{{deleted}, nil, {started}, {stopped}},                   // idle
		{{stopped, deleted}, nil, nil, {stopped}},                // running
		{{deleted}, nil, nil, nil},                               // over; it never runs again
	} {
		for to, kinds := range want {
			if got := eventsBetween(phases[from], phases[to]); !slices.Equal(got, kinds) {
				t.Errorf("from %d to %d: %v, wanted %v", from, to, got, kinds)
			}
		}
	}
}

// The whole life of a pod, as two listeners see it: the same, in the order of what happened, and with each
// event the state that came of it.
func TestEventsOfALife(t *testing.T) {
	d := newWorld(t).start()
	var one, two hearer
	d.listen(one.take)
	d.listen(two.take)
	pod := d.runPod(podConfig("web"))
	id := d.create(pod, containerConfig("c"))
	d.begin(id)
	check := errors.Join(d.m.StopContainer(t.Context(), id, 0), d.m.RemoveContainer(t.Context(), id),
		d.m.StopPod(t.Context(), pod), d.m.RemovePod(t.Context(), pod))
	if check != nil {
		t.Fatal(check)
	}
	names := map[string]string{pod: "pod", id: "container"}
	want := []string{
		"created pod ready []", "started pod ready []",
		"created container ready [created]", "started container ready [running]",
		"stopped container ready [exited]", "deleted container ready []",
		"stopped pod not ready []", "deleted pod not ready []",
	}
	kinds := map[EventKind]string{EventCreated: "created", EventStarted: "started", EventStopped: "stopped", EventDeleted: "deleted"}
	for name, c := range map[string]*hearer{"one": &one, "two": &two} {
		d.eventually("all events came", func() error {
			if n := len(c.all()); n < len(want) {
				return fmt.Errorf("%d of %d", n, len(want))
			}
			return nil
		})
		var got []string
		last := time.Time{}
		for _, e := range c.all() {
			var states []string
			for _, i := range e.Containers {
				states = append(states, i.State.String())
			}
			got = append(got, fmt.Sprintf("%s %s %s %v", kinds[e.Kind], names[e.ID], e.Pod.State, states))
			if e.At.Before(last) {
				t.Errorf("listener %s: an event of %v after one of %v", name, e.At, last)
			}
			last = e.At
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("listener %s got\n%q\nwanted\n%q", name, got, want)
		}
	}
}

// What nobody ever saw makes no event: a pod whose set-up fails.
func TestNoEventsOfFailures(t *testing.T) {
	d := newWorld(t).start()
	var c hearer
	d.listen(c.take)
	d.fail("network add", errors.New("broken"))
	if _, err := d.m.RunPod(t.Context(), podConfig("web")); err == nil {
		t.Fatal("no error")
	}
	d.fail("network add", nil)
	pod := d.runPod(podConfig("web"))
	d.eventually("the good pod's came", func() error {
		if len(c.all()) < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	for _, e := range c.all() {
		if e.ID != pod {
			t.Errorf("event %d of %s", e.Kind, e.ID)
		}
	}
}

// A listener that takes nothing costs the others nothing, and is told that it has lost events.
func TestSlowListener(t *testing.T) {
	m := &Manager{base: &base{}}
	m.closing, m.hurry = context.WithCancelCause(t.Context())
	p := newPod(t.Context(), *samplePod())
	holds, hold, slow := make(chan struct{}, maxLag), make(chan struct{}), make(chan error, 1)
	go func() {
		slow <- m.Events(t.Context(), func(*Event) error { holds <- struct{}{}; <-hold; return nil })
	}()
	var quick hearer
	go func() { _ = m.Events(t.Context(), quick.take) }()
	for len(m.events.all()) < 2 {
		time.Sleep(time.Millisecond)
	}
	for i := range maxLag + 2 {
		p.mu.Lock()
		m.events.happened("c", phaseIdle, phaseRunning, p, nil)
		p.mu.Unlock()
		if i == 0 {
			<-holds // what comes now waits for it
		}
		for i%1000 == 0 && len(quick.all()) <= i {
			time.Sleep(time.Millisecond)
		}
	}
	close(hold)
	if err := <-slow; !errors.Is(err, ErrLagging) {
		t.Errorf("the slow one got %v", err)
	}
	for len(quick.all()) < maxLag+2 {
		time.Sleep(time.Millisecond)
	}
	if len(m.events.all()) != 1 {
		t.Error("the slow one is still listed")
	}
}

func TestEventsEnd(t *testing.T) {
	d := newWorld(t).start()
	failure := errors.New("client is gone")
	failed := d.listen(func(*Event) error { return failure })
	open := d.listen(func(*Event) error { return nil })
	config := podConfig("web")
	config.Security.Namespaces.Network = spec.NamespaceNode
	d.runPod(config)
	if err := <-failed; !errors.Is(err, failure) {
		t.Errorf("a listener that fails: %v", err)
	}
	if err := d.m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-open; !errors.Is(err, ErrClosed) {
		t.Errorf("a listener at the end of the manager: %v", err)
	}
}
