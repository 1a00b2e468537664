package keeper

import (
	"sync"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// holdings is all that is held, by key.
type holdings struct {
	exits *exitQueue

	mu   sync.Mutex
	held map[string]*held
	past past
}

func newHoldings() *holdings {
	return &holdings{exits: newExitQueue(), held: make(map[string]*held)}
}

// takeOver holds what a keeper kept when the client connected, and describes it to the caller.
func (s *holdings) takeOver(r *wire.Record, fds []int) (Kept, error) {
	h := heldFrom(r, fds)
	s.mu.Lock()
	s.held[r.Key] = h
	s.mu.Unlock()
	out, err := h.kept(r.Key)
	if err == nil && r.Exit != nil {
		exit := exitOf(r)
		out.Exit = &exit
		s.exited(r)
	}
	return out, err
}

// add holds descriptors under a key.
func (s *holdings) add(key string, holds map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entry(key).hold(holds)
}

// launched holds the process of a launch that succeeded.
func (s *holdings) launched(cl *call, pid, pidfd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cl.launch.pid, cl.launch.pidfd = pid, pidfd
	h := s.entry(cl.key)
	h.process = cl.launch
	h.hold(cl.holds)
	cl.holds = nil
	s.past.take(cl.key)
}

// entry returns what is held under a key, which may be nothing yet. The lock is held.
func (s *holdings) entry(key string) *held {
	h := s.held[key]
	if h == nil {
		h = &held{}
		s.held[key] = h
	}
	return h
}

// exited notes and queues the end of a process, once.
func (s *holdings) exited(r *wire.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[r.Key]
	if h == nil || h.process == nil || h.process.exit != nil || h.process.pid != r.PID {
		return // forgotten, or told before
	}
	p, exit := h.process, exitOf(r)
	p.exit = &exit
	close(p.ended)
	if p.oneshot {
		p.close()
		s.remove(r.Key, p)
		s.past.add(exit)
	}
	s.exits.add(exit)
}

// undo drops the process of a launch that was given up, if it is held.
func (s *holdings) undo(key string, p *heldProcess) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(key, p)
}

// remove drops a process from its key; the lock is held.
func (s *holdings) remove(key string, p *heldProcess) {
	if h := s.held[key]; h != nil && h.process == p {
		h.process = nil
		if len(h.holds) == 0 {
			delete(s.held, key)
		}
	}
}

// drop lets go of all that is held under a key.
func (s *holdings) drop(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.held[key]; h != nil {
		h.close()
		delete(s.held, key)
	}
	s.past.take(key)
}

// process returns the process under a key; or, for Wait, the remembered end of a oneshot.
func (s *holdings) process(key string, wait bool) (*heldProcess, Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait {
		if exit, ok := s.past.take(key); ok {
			return nil, exit
		}
	}
	if h := s.held[key]; h != nil {
		return h.process, Exit{}
	}
	return nil, Exit{}
}

// exit returns the exit of a process that has ended.
func (s *holdings) exit(key string, p *heldProcess) Exit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.oneshot {
		s.past.take(key)
	}
	return *p.exit
}

// known says which keys are held.
func (s *holdings) known(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[key] != nil
}

// keys returns the keys that are held, without those in but.
func (s *holdings) keys(but map[string]bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.held {
		if !but[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// record describes what is held under a key, with duplicates of the descriptors; nil: nothing.
func (s *holdings) record(key string) (*wire.Record, []int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.held[key]; h != nil {
		return h.record(key)
	}
	return nil, nil, nil
}

func (s *holdings) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, h := range s.held {
		h.close()
		delete(s.held, key)
	}
}

func exitOf(r *wire.Record) Exit {
	return Exit{Key: r.Key, Status: r.Exit.Status, Known: r.Exit.Known, At: r.Exit.At}
}
