package link

import (
	"sync"
	"time"
)

// Reaper removes interfaces whose owner does not want to wait. Mostly it finds that they went with their namespace.
type Reaper struct {
	space *Space
	grace time.Duration

	mu      sync.Mutex
	pending map[int]*time.Timer // by index: the kernel gives a space's indices in rising order, so none is soon reused
	running sync.WaitGroup
}

// NewReaper removes interfaces of space, each grace after it was handed over.
func NewReaper(space *Space, grace time.Duration) *Reaper {
	return &Reaper{space: space, grace: grace, pending: map[int]*time.Timer{}}
}

// Later removes the interface with this index soon. It may be called again for the same one.
func (r *Reaper) Later(index int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.pending[index]; ok {
		return
	}
	r.running.Add(1)
	r.pending[index] = time.AfterFunc(r.grace, func() {
		defer r.running.Done()
		_ = r.Now(index) // nobody is left to tell; the end of the namespace takes the interface in any case
	})
}

// Has says whether the interface is waiting to be removed.
func (r *Reaper) Has(index int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.pending[index]
	return ok
}

// Now removes the interface and waits for the kernel to have done so.
func (r *Reaper) Now(index int) error {
	r.forget(index)
	return r.space.DeleteAt(index)
}

func (r *Reaper) forget(index int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if timer, ok := r.pending[index]; ok {
		if timer.Stop() {
			r.running.Done()
		}
		delete(r.pending, index)
	}
}

// Close removes at once what is still waiting, and returns when all is gone.
func (r *Reaper) Close() {
	r.mu.Lock()
	var rest []int
	for index := range r.pending {
		rest = append(rest, index)
	}
	r.mu.Unlock()
	var done sync.WaitGroup
	for _, index := range rest {
		done.Go(func() { _ = r.Now(index) }) // together: they share the kernel's grace periods
	}
	done.Wait()
	r.running.Wait()
}
