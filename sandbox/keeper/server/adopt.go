package server

import (
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// adopt takes over an entry of a dead keeper. What it can't go on with is an error; the rest is kept
// nevertheless. A key that is kept already stays as it is.
func (s *Server) adopt(r *wire.Record, f *files) error {
	f.closeProgram()
	s.table.mu.Lock()
	known := s.table.entries[r.Key] != nil
	s.table.mu.Unlock()
	if known { // only the one goroutine that reads requests adds keys
		f.close()
		return nil
	}
	e := &entry{key: r.Key}
	e.hold(r.Holds, f.holds)
	f.holds = nil
	var err error
	var p *process
	if r.HasPidFD {
		p = &process{pid: r.PID, pidfd: f.pidfd, oneshot: r.Oneshot, maxLine: r.MaxLine, names: r.Streams, exit: r.Exit}
		f.pidfd = -1
		err = s.startCopy(e, p, r, f)
	}
	f.close()
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	e.process = p
	s.table.entries[r.Key] = e
	switch {
	case p == nil:
	case p.exit != nil:
		p.death = &death{status: p.exit.Status, known: p.exit.Known, at: p.exit.At.UnixNano()}
	default:
		// When it is an orphan that came to us, reap finds it by its number.
		s.table.byPID[p.pid] = e
		// Else its parent is whoever inherited it; all that we have is its pidfd, readable at its end.
		watch, werr := s.copier.Watch(p.pidfd, func() { go s.adoptedDied(e, p) })
		p.watch = watch
		if err == nil {
			err = werr
		}
	}
	return err
}

// adoptedDied notes the end of a process that is another's child.
func (s *Server) adoptedDied(e *entry, p *process) {
	at := time.Now().UnixNano()
	s.table.mu.Lock()
	fd := -1
	if e.process == p {
		fd = dup(p.pidfd)
	}
	s.table.mu.Unlock()
	if fd < 0 {
		return
	}
	defer closeFD(fd)
	status, known := exitStatus(fd, p.pid)
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if e.process == p && p.death == nil {
		s.table.died(e, death{status: status, known: known, at: at})
	}
}
