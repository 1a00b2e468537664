package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/oci/program"
	"github.com/berth-runtime/berth/sandbox/keeper/copier"
	"github.com/berth-runtime/berth/sandbox/keeper/journal"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// maxProgram bounds the bytes of a launch program.
const maxProgram = 16 << 20

// launching is a launch on its way to execve. Its fields belong to the table's lock.
type launching struct {
	session *session
	child   *launch.Child // nil: not started yet
	aborted bool
}

// abort kills what the launch has made so far, and what it will make.
func (l *launching) abort() {
	l.aborted = true
	if l.child != nil {
		_ = unix.PidfdSendSignal(l.child.PidFD, unix.SIGKILL, nil, 0) // ESRCH: it is gone
	}
}

// launch begins a launch; a goroutine of its own carries it to its end, for a step may hang.
func (s *Server) launch(ses *session, id uint32, r *wire.Record, f *files) {
	l := &launching{session: ses}
	s.table.mu.Lock()
	e := s.table.entries[r.Key]
	if e == nil {
		e = &entry{key: r.Key}
		s.table.entries[r.Key] = e
	}
	if p := e.process; p != nil && p.oneshot && p.exit != nil {
		s.table.dropProcess(e) // its exit is on its way
		s.table.entries[r.Key] = e
	}
	if e.process != nil || e.launching != nil {
		s.table.mu.Unlock()
		f.close()
		ses.answer(id, wire.Result{Code: wire.InUse})
		return
	}
	e.launching = l
	s.table.pending++
	s.table.mu.Unlock()
	go func() { // ends with the child's execve or death; abort hastens that
		p, err := s.run(e, l, id, r, f)
		f.closeProgram()
		if err != nil {
			f.close()
		}
		s.finish(e, l, id, r, f, p, err)
	}()
}

// run starts the streams and the child and waits for its execve.
func (s *Server) run(e *entry, l *launching, id uint32, r *wire.Record, f *files) (*process, error) {
	prog, err := readProgram(f.program)
	if err != nil {
		return nil, err
	}
	p := &process{pidfd: -1, oneshot: r.Oneshot, maxLine: r.MaxLine, names: r.Streams}
	if err := s.startCopy(e, p, r, f); err != nil {
		return nil, err
	}
	start := s.launcher.Start
	if r.Timed {
		start = s.launcher.StartTimed
	}
	child, err := start(prog, f.slots)
	if err != nil {
		p.close(s.copier)
		return nil, err
	}
	p.pid, p.pidfd = child.PID, child.PidFD
	s.started(l, id, child)
	pid, err := child.Wait()
	if err != nil {
		_ = unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0) // ESRCH: it is gone
		s.clearChild(l)
		p.close(s.copier)
		return nil, err
	}
	p.times = child.Times()
	if pid != child.PID {
		// The process that runs is another: the first one made it by clone3(CLONE_PARENT). When it is
		// already gone, the first one's pidfd will do: that one is gone too, or about to.
		p.pid = pid
		fd, err := unix.PidfdOpen(pid, 0)
		switch err {
		case nil:
			s.clearChild(l)
			closeFD(p.pidfd)
			p.pidfd = fd
		case unix.ESRCH:
			p.gone = true
		default: // no descriptors left
			s.table.killStray(pid)
			s.clearChild(l)
			p.close(s.copier)
			return nil, fmt.Errorf("open pidfd: %w", err)
		}
	}
	return p, nil
}

// started tells the daemon of the child, so that it can kill it should this keeper die now.
func (s *Server) started(l *launching, id uint32, child *launch.Child) {
	s.table.mu.Lock()
	l.child = child
	if l.aborted {
		l.abort()
	}
	s.table.mu.Unlock()
	fd, err := unix.FcntlInt(uintptr(child.PidFD), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return // it is told when the launch is through
	}
	l.session.send(wire.Message{Kind: wire.KindStarted, ID: id, Body: wire.Result{PID: child.PID}.Append(nil), Files: []int{fd}}, nil)
}

// clearChild keeps abort from using the child's pidfd, which is about to be closed.
func (s *Server) clearChild(l *launching) {
	s.table.mu.Lock()
	l.child = nil
	s.table.mu.Unlock()
}

// finish ends a launch: the process is registered and the daemon told, or everything is undone.
func (s *Server) finish(e *entry, l *launching, id uint32, r *wire.Record, f *files, p *process, err error) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	e.launching = nil
	s.table.pending--
	early, dead := s.table.takeStray(p)
	if err == nil && (l.aborted || s.table.session != l.session) {
		if !dead {
			_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0) // ESRCH: it is gone
		}
		p.close(s.copier)
		closeFD(f.holds...)
		s.table.dropProcess(e)
		l.session.answer(id, wire.Result{Code: wire.Aborted})
		return
	}
	if err != nil {
		s.table.dropProcess(e)
		l.session.answer(id, failure(err))
		return
	}
	e.process = p
	e.hold(r.Holds, f.holds)
	fd, duperr := unix.FcntlInt(uintptr(p.pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if duperr != nil {
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
		s.table.drop(e)
		l.session.answer(id, failure(fmt.Errorf("duplicate pidfd: %w", duperr)))
		return
	}
	l.session.answer(id, wire.Result{PID: p.pid, Times: p.times}, fd)
	p.times = nil
	if dead {
		s.table.died(e, early)
		return
	}
	s.table.byPID[p.pid] = e
}

// startCopy begins to copy the streams of a record into its log, and takes over their descriptors.
func (s *Server) startCopy(e *entry, p *process, r *wire.Record, f *files) error {
	if len(f.streams) == 0 && len(f.logs) == 0 {
		return nil
	}
	log, next, sources, err := openStreams(r, f)
	f.streams, f.journals, f.relays, f.logs = nil, nil, nil, nil
	if err != nil {
		return err
	}
	p.copy, err = s.copier.Start(e.key, sources, log, func() { s.table.drained(e, p) })
	if err == nil && next >= 0 {
		s.goOver(p.copy, next, r.Generation)
	}
	return err
}

// goOver has a copy go on with another log as soon as its present one took all that is under way.
func (s *Server) goOver(c *copier.Copy, fd int, generation uint32) {
	spare := dup(fd)
	c.Reopen(fd, generation, func(err error) {
		if err == nil || errors.Is(err, copier.ErrClosed) || spare < 0 {
			closeFD(spare)
			return
		}
		time.AfterFunc(time.Second, func() { s.goOver(c, spare, generation) })
	})
}

// openStreams makes sources and log of a record's descriptors, all of which it takes over. next is the
// log file to go on with once a dead keeper's batch is written through, -1 when it is the same.
func openStreams(r *wire.Record, f *files) (log *journal.Log, next int, sources []*copier.Source, err error) {
	if len(f.journals) != len(f.streams) {
		closeFD(f.journals...)
		closeFD(f.relays...)
		closeFD(f.logs...)
		for _, fd := range f.streams {
			sources = append(sources, &copier.Source{FD: fd})
		}
		return nil, -1, sources, nil
	}
	over := len(f.logs) < 2 // the newest file is the log already
	for i, fd := range f.streams {
		d := journal.Descriptors{Source: fd, Journal: f.journals[i], Relay: -1}
		if r.Relays {
			d.Relay = f.relays[i]
		}
		j, jerr := journal.NewStream(r.Streams[i], d, r.MaxLine)
		if jerr != nil {
			err = jerr
			d.Close()
			continue
		}
		if g, ok := j.Generation(); ok && g == r.Generation {
			over = true
		}
		sources = append(sources, &copier.Source{Journal: j})
	}
	if len(f.logs) == 0 {
		if err != nil {
			for _, src := range sources {
				src.Journal.Close()
			}
		}
		return nil, -1, sources, err
	}
	if over {
		newest := len(f.logs) - 1
		closeFD(f.logs[:newest]...)
		log, next = journal.NewLog(f.logs[newest], r.Generation), -1
	} else {
		log, next = journal.NewLog(f.logs[0], r.Generation-1), f.logs[1]
	}
	for _, src := range sources {
		if _, rerr := log.Recover(src.Journal); rerr != nil {
			err = rerr
		}
	}
	if err == nil {
		return log, next, sources, nil
	}
	for _, src := range sources {
		src.Journal.Close()
	}
	log.Close()
	closeFD(next)
	return nil, -1, nil, err
}

// readProgram reads a launch program from its memfd.
func readProgram(fd int) (*program.Program, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at launch program: %w", err)
	}
	if st.Size > maxProgram {
		return nil, fmt.Errorf("read launch program of %d bytes: %w", st.Size, unix.EFBIG)
	}
	b := make([]byte, st.Size)
	for n := 0; n < len(b); {
		m, err := unix.Pread(fd, b[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read launch program: %w", err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	return program.Unmarshal(b)
}
