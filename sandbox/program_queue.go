package sandbox

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// programQueue has the programs that are not written yet, the oldest first.
type programQueue struct {
	mu      sync.Mutex
	waiting []waitingProgram
	tended  bool // somebody writes them as they get old
}

type waitingProgram struct {
	*freshProgram
	due time.Time
}

// put says whether somebody must tend the queue from now on.
func (q *programQueue) put(f *freshProgram) (begin bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, waitingProgram{f, time.Now().Add(keepAfter)})
	begin = !q.tended
	q.tended = true
	return begin
}

// next is when the first program is due. When there is none, nobody tends the queue any more.
func (q *programQueue) next() (due time.Time, any bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.tended = false
		return due, false
	}
	return q.waiting[0].due, true
}

// take returns what is due at a time.
func (q *programQueue) take(now time.Time) []waitingProgram {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.waiting) && !q.waiting[n].due.After(now) {
		n++
	}
	due := q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	return due
}

// tendPrograms writes programs as they get old, until there are none.
func (kp *keptPrograms) tendPrograms(context.Context) {
	for {
		due, any := kp.queue.next()
		if !any {
			return
		}
		select {
		case <-time.After(time.Until(due)):
		case <-kp.closing.Done():
			return
		}
		kp.writeDue(time.Now())
	}
}

// writePrograms writes all that are remembered, however young.
func (kp *keptPrograms) writePrograms() { kp.writeDue(time.Now().Add(keepAfter)) }

func (kp *keptPrograms) writeDue(now time.Time) {
	due := kp.queue.take(now)
	if len(due) == 0 {
		return
	}
	packer := kp.packer()
	defer kp.packers.Put(packer)
	for _, w := range due {
		p, name := w.note.pod, w.note.name
		if err := kp.writeFresh(p, name, w.freshProgram, packer); err != nil {
			kp.log.WithFields(logrus.Fields{"pod": p.id, "op": "keep program " + name, "error": err}).Warn("launch program not kept")
		}
	}
}
