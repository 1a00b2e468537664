package keeper

import "sync"

// exitQueue passes exits on in order; who adds one never waits.
type exitQueue struct {
	out  chan Exit
	wake chan struct{} // has room for one: queue is not empty

	mu    sync.Mutex
	queue []Exit
}

func newExitQueue() *exitQueue {
	return &exitQueue{out: make(chan Exit), wake: make(chan struct{}, 1)}
}

func (q *exitQueue) add(e Exit) {
	q.mu.Lock()
	q.queue = append(q.queue, e)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already
	}
}

// run delivers until done is closed, then closes out.
func (q *exitQueue) run(done <-chan struct{}) {
	defer close(q.out)
	for {
		select {
		case <-q.wake:
		case <-done:
			return
		}
		q.mu.Lock()
		queue := q.queue
		q.queue = nil
		q.mu.Unlock()
		for _, e := range queue {
			select {
			case q.out <- e:
			case <-done:
				return
			}
		}
	}
}

// pastMost is how many ends of oneshots are remembered for whoever waits for them late.
const pastMost = 1024

// past remembers ends of oneshots. Not for concurrent use.
type past struct {
	exits map[string]Exit
	order []string
}

func (p *past) add(e Exit) {
	if p.exits == nil {
		p.exits = make(map[string]Exit)
	}
	p.exits[e.Key] = e
	p.order = append(p.order, e.Key)
	if len(p.order) > pastMost {
		delete(p.exits, p.order[0])
		p.order = p.order[1:]
	}
}

func (p *past) take(key string) (Exit, bool) {
	e, ok := p.exits[key]
	delete(p.exits, key)
	return e, ok
}
