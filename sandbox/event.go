package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// EventKind is what happened to a pod or container.
type EventKind uint8

// The kinds of events, as clients see a life.
const (
	EventCreated EventKind = iota + 1
	EventStarted           // of a pod: it is ready
	EventStopped           // of a pod: it is ready no more
	EventDeleted
)

// Event is a change of one pod or container, and how its pod was right after it: all
// of one moment. It is immutable, and shared.
type Event struct {
	ID   string // of the container, or of the pod itself
	Kind EventKind
	At   time.Time
	Pod  *PodInfo // of a pod that is deleted: as it was last
	// Containers are those of the pod, the oldest first; one that is deleted is not among them.
	Containers []*ContainerInfo
}

// ErrLagging: a listener took its events too slowly, and has lost some.
var ErrLagging = errors.New("listener is too slow")

// maxLag is how many events wait for a listener before it is given up.
const maxLag = 16 << 10

// Events calls f with every event from now on, in their order, until ctx ends, f
// fails, or the manager is closed (ErrClosed). f may take its time: other listeners
// don't wait for it, and neither does what happens. A listener that falls far
// behind gets ErrLagging: it must look at the lists again, and may listen again.
func (m *Manager) Events(ctx context.Context, f func(*Event) error) error {
	l := m.events.listen()
	defer m.events.leave(l)
	return m.pass(ctx, l, f)
}

// pass gives f what a listener hears.
func (b *base) pass(ctx context.Context, l *listener, f func(*Event) error) error {
	for {
		events, err := l.take()
		if err != nil {
			return fmt.Errorf("listen to events: %w", err)
		}
		for _, e := range events {
			if err := f(e); err != nil {
				return err
			}
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-b.closing.Done():
			return fmt.Errorf("listen to events: %w", context.Cause(b.closing))
		}
	}
}

// events hands what happens to those that listen.
type events struct {
	mu        sync.Mutex
	listeners map[*listener]bool
}

// listener is one that wants to know, with what it has not taken yet.
type listener struct {
	wake chan struct{} // has room for one

	mu    sync.Mutex
	queue []*Event
	lost  bool
}

func (e *events) listen() *listener {
	l := &listener{wake: make(chan struct{}, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.listeners == nil {
		e.listeners = map[*listener]bool{}
	}
	e.listeners[l] = true
	return l
}

func (e *events) leave(l *listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listeners, l)
}

// happened tells the listeners what became of a pod or container. The caller has the pod's
// lock, which makes the order that of the changes. last is the pod, should it be
// seen no more.
func (e *events) happened(id string, from, to phase, p *pod, last *PodInfo) {
	kinds := eventsBetween(from, to)
	if len(kinds) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.listeners) == 0 {
		return
	}
	now := time.Now()
	pod, containers := p.shown()
	if pod == nil {
		pod = last
	}
	for _, k := range kinds {
		event := &Event{ID: id, Kind: k, At: now, Pod: pod, Containers: containers}
		for l := range e.listeners {
			l.add(event)
		}
	}
}

func (l *listener) add(e *Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) >= maxLag {
		l.lost, l.queue = true, nil
	}
	if !l.lost {
		l.queue = append(l.queue, e)
	}
	select {
	case l.wake <- struct{}{}:
	default: // it is awake
	}
}

// take is what has come since.
func (l *listener) take() ([]*Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		return nil, ErrLagging
	}
	out := l.queue
	l.queue = nil
	return out, nil
}

// phase is how far clients see that a pod or container has come.
type phase uint8

const (
	phaseUnseen phase = iota
	phaseIdle         // made, not started
	phaseRunning
	phaseOver
)

func podPhase(i *PodInfo) phase {
	switch {
	case i == nil:
		return phaseUnseen
	case i.State == PodReady:
		return phaseRunning
	}
	return phaseOver
}

func containerPhase(i *ContainerInfo) phase {
	switch {
	case i == nil:
		return phaseUnseen
	case i.State == ContainerCreated:
		return phaseIdle
	case i.State == ContainerRunning:
		return phaseRunning
	}
	return phaseOver
}

// eventsBetween is what happened on the way from one phase to another.
func eventsBetween(from, to phase) []EventKind {
	var out []EventKind
	if from == phaseUnseen && to != phaseUnseen {
		out = append(out, EventCreated)
	}
	if from < phaseRunning && to == phaseRunning {
		out = append(out, EventStarted)
	}
	if from != phaseOver && to == phaseOver || from == phaseRunning && to == phaseUnseen {
		out = append(out, EventStopped)
	}
	if from != phaseUnseen && to == phaseUnseen {
		out = append(out, EventDeleted)
	}
	return out
}
