package server

import (
	"sync"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/copier"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// How long after a process's end its streams may still hold its exit back: grace for what is in the
// pipes, then the flush of an unfinished line.
const (
	drainGrace = 500 * time.Millisecond
	flushGrace = 100 * time.Millisecond
)

// table is all that is kept, and who is to be told.
type table struct {
	copier *copier.Copier

	mu      sync.Mutex
	entries map[string]*entry
	byPID   map[int]*entry // children of ours that run
	session *session       // of the daemon; nil: none is connected
	// strays are the ends of children that are in no entry, kept while a launch is pending: an exec's
	// process may end before Child.Wait tells its pid.
	strays  map[int]death
	pending int // launches that have not reached execve
}

func newTable(c *copier.Copier) *table {
	return &table{copier: c, entries: make(map[string]*entry), byPID: make(map[int]*entry), strays: make(map[int]death)}
}

func (t *table) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries) == 0
}

// enter makes ses the daemon's session, unless a living one has that place, and returns the keys that
// it has to be told of.
func (t *table) enter(ses *session) (keys []string, taken bool) {
	t.mu.Lock()
	old := t.session
	if old != nil && !old.conn.HungUp() {
		t.mu.Unlock()
		return nil, false
	}
	t.session = ses
	for key, e := range t.entries {
		if e.launching == nil {
			keys = append(keys, key)
		}
	}
	t.mu.Unlock()
	if old != nil {
		t.leave(old)
	}
	return keys, true
}

// leave ends a session: nobody waits for its launches any more.
func (t *table) leave(ses *session) {
	ses.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session == ses {
		t.session = nil
	}
	for _, e := range t.entries {
		if e.launching != nil && e.launching.session == ses {
			e.launching.abort()
		}
	}
}

// drop removes what is kept under the key.
func (t *table) drop(e *entry) {
	t.dropProcess(e)
	for _, fd := range e.holds {
		closeFD(fd)
	}
	e.holds = nil
	delete(t.entries, e.key)
}

// dropProcess removes the process and its exit; what is held stays.
func (t *table) dropProcess(e *entry) {
	if p := e.process; p != nil {
		t.unlist(e)
		p.close(t.copier)
		e.process = nil
	}
	if len(e.holds) == 0 && e.launching == nil {
		delete(t.entries, e.key)
	}
}

// unlist takes an entry's process out of those that run. The number of one that was another's child may be a child's of ours
// by now.
func (t *table) unlist(e *entry) {
	if t.byPID[e.process.pid] == e {
		delete(t.byPID, e.process.pid)
	}
}

// died notes the end of an entry's process. Its exit is told when its streams have ended, or a while
// later: something that the process left may hold them open. The table's lock is held.
func (t *table) died(e *entry, d death) {
	p := e.process
	p.death = &d
	t.unlist(e)
	if p.drained || p.copy == nil {
		t.tell(e, p)
		return
	}
	time.AfterFunc(drainGrace, func() {
		t.mu.Lock()
		late := e.process == p && p.exit == nil
		t.mu.Unlock()
		if !late {
			return
		}
		p.copy.Flush()
		time.AfterFunc(flushGrace, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if e.process == p {
				t.tell(e, p)
			}
		})
	})
}

// drained notes that all streams of a process have ended.
func (t *table) drained(e *entry, p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.drained = true
	if e.process == p && p.death != nil {
		t.tell(e, p)
	}
}

// tell makes the exit known, once. The table's lock is held.
func (t *table) tell(e *entry, p *process) {
	if p.exit != nil {
		return
	}
	p.exit = &wire.Exit{Status: p.death.status, Known: p.death.known, At: time.Unix(0, p.death.at)}
	r := &wire.Record{Key: e.key, PID: p.pid, Oneshot: p.oneshot, Exit: p.exit}
	var sent func()
	if p.oneshot {
		sent = func() { t.forgetOneshot(e.key, p) }
	}
	t.session.send(wire.Message{Kind: wire.KindExit, Body: r.Append(nil)}, sent)
}

func (t *table) forgetOneshot(key string, p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[key]; e != nil && e.process == p {
		t.dropProcess(e)
	}
}

// hold adds descriptors to a key.
func (t *table) hold(r *wire.Record, f *files) {
	holds := f.holds
	f.holds = nil
	f.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[r.Key]
	if e == nil {
		if len(holds) == 0 {
			return
		}
		e = &entry{key: r.Key}
		t.entries[r.Key] = e
	}
	e.hold(r.Holds, holds)
}

// forget drops a key; a launch under way is aborted. kill is for a launch that was to be aborted and
// was quicker.
func (t *table) forget(key string, kill bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[key]
	if e == nil {
		return
	}
	if e.launching != nil {
		e.launching.abort()
		return
	}
	if !kill {
		t.drop(e)
		return
	}
	if e.process != nil && e.process.death == nil {
		_ = unix.PidfdSendSignal(e.process.pidfd, unix.SIGKILL, nil, 0) // ESRCH: it is gone
	}
	t.dropProcess(e)
}

// copyOf returns the copy of the process under a key, nil when there is none.
func (t *table) copyOf(key string) *copier.Copy {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[key]; e != nil && e.process != nil {
		return e.process.copy
	}
	return nil
}

// streamsOf returns the copy of the process under a key, nil when there is none, and the names of its streams.
func (t *table) streamsOf(key string) (*copier.Copy, []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[key]; e != nil && e.process != nil {
		return e.process.copy, e.process.names
	}
	return nil, nil
}

// kept describes what is kept under a key, with duplicates of its descriptors; nil when there is nothing.
func (t *table) kept(key string) (*process, *wire.Record, []int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[key]
	if e == nil || e.launching != nil {
		return nil, nil, nil, nil
	}
	r, files, err := e.record()
	return e.process, r, files, err
}
