package server

import (
	"errors"
	"fmt"
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

// entry is what is kept under a key. Its fields belong to the table's lock.
type entry struct {
	key     string
	holds   map[string]int
	process *process // nil: descriptors only
	// launching is the launch under way; then process is nil.
	launching *launching
}

// process is a process that runs, or whose exit is kept.
type process struct {
	pid     int
	pidfd   int
	oneshot bool
	maxLine int
	names   []string     // of its streams
	copy    *copier.Copy // nil: no streams
	gone    bool         // reaped before it could be registered; pidfd is another's
	watch   uint64       // of its pidfd, when another process is its parent
	death   *death       // nil: it runs
	drained bool         // all streams have ended
	exit    *wire.Exit   // nil: not to be told yet
}

// close gives back what the process has here. The process itself is left alone.
func (p *process) close(c *copier.Copier) {
	if p.copy != nil {
		p.copy.Close()
	}
	c.Unwatch(p.pidfd, p.watch)
	closeFD(p.pidfd)
}

// hold adds descriptors, in place of those of the same names.
func (e *entry) hold(names []string, files []int) {
	if e.holds == nil && len(names) > 0 {
		e.holds = make(map[string]int, len(names))
	}
	for i, name := range names {
		if old, ok := e.holds[name]; ok {
			closeFD(old)
		}
		e.holds[name] = files[i]
	}
}

// drop removes what is kept under the key.
func (s *Server) drop(e *entry) {
	s.dropProcess(e)
	for _, fd := range e.holds {
		closeFD(fd)
	}
	e.holds = nil
	delete(s.table, e.key)
}

// dropProcess removes the process and its exit; what is held stays.
func (s *Server) dropProcess(e *entry) {
	if p := e.process; p != nil {
		if s.byPID[p.pid] == e {
			delete(s.byPID, p.pid)
		}
		p.close(s.copier)
		e.process = nil
	}
	if len(e.holds) == 0 && e.launching == nil {
		delete(s.table, e.key)
	}
}

// died notes the end of an entry's process. Its exit is told when its streams have ended, or a while
// later: something that the process left may hold them open. The table's lock is held.
func (s *Server) died(e *entry, d death) {
	p := e.process
	p.death = &d
	delete(s.byPID, p.pid)
	if p.drained || p.copy == nil {
		s.tell(e, p)
		return
	}
	time.AfterFunc(drainGrace, func() {
		s.mu.Lock()
		late := e.process == p && p.exit == nil
		s.mu.Unlock()
		if !late {
			return
		}
		p.copy.Flush()
		time.AfterFunc(flushGrace, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if e.process == p {
				s.tell(e, p)
			}
		})
	})
}

// drained notes that all streams of a process have ended.
func (s *Server) drained(e *entry, p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.drained = true
	if e.process == p && p.death != nil {
		s.tell(e, p)
	}
}

// tell makes the exit known, once. The table's lock is held.
func (s *Server) tell(e *entry, p *process) {
	if p.exit != nil {
		return
	}
	p.exit = &wire.Exit{Status: p.death.status, Known: p.death.known, At: time.Unix(0, p.death.at)}
	r := &wire.Record{Key: e.key, PID: p.pid, Oneshot: p.oneshot, Exit: p.exit}
	var sent func()
	if p.oneshot {
		sent = func() { s.forgetOneshot(e, p) }
	}
	s.session.send(wire.Message{Kind: wire.KindExit, Body: r.Append(nil)}, sent)
}

func (s *Server) forgetOneshot(e *entry, p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.process == p {
		s.dropProcess(e)
	}
}

// sendKept tells a new daemon what is kept under a key. It waits for the daemon.
func (s *Server) sendKept(conn *wire.Conn, key string) error {
	s.mu.Lock()
	e := s.table[key]
	if e == nil || e.launching != nil {
		s.mu.Unlock()
		return nil
	}
	p := e.process
	r, files, err := e.record()
	s.mu.Unlock()
	m := wire.Message{Kind: wire.KindKept, Body: r.Append(nil), Files: files}
	defer m.CloseFiles()
	if err != nil {
		return fmt.Errorf("duplicate descriptors of %s: %w", key, err)
	}
	if err := conn.Send(m); err != nil {
		return err
	}
	if r.Oneshot && r.Exit != nil {
		s.forgetOneshot(e, p)
	}
	return nil
}

// record describes the entry, with duplicates of its descriptors.
func (e *entry) record() (*wire.Record, []int, error) {
	r := &wire.Record{Key: e.key}
	var files []int
	var errs []error
	add := func(fd int) {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			errs = append(errs, err)
			return
		}
		files = append(files, n)
	}
	if p := e.process; p != nil {
		r.PID, r.Oneshot, r.MaxLine, r.Exit = p.pid, p.oneshot, p.maxLine, p.exit
		r.HasPidFD = true
		add(p.pidfd)
		if p.copy != nil {
			f, err := p.copy.Files(p.names)
			errs = append(errs, err)
			r.Streams, r.Journals, r.Generation = f.Names, len(f.Journals) > 0, f.Generation
			files = append(append(files, f.Sources...), f.Journals...)
			if f.Log >= 0 {
				r.Logs = 1
				files = append(files, f.Log)
			}
		}
	}
	for name, fd := range e.holds {
		r.Holds = append(r.Holds, name)
		add(fd)
	}
	return r, files, errors.Join(errs...)
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}
