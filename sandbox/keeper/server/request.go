package server

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper/copier"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// request carries out a message of the daemon. It doesn't block.
func (s *Server) request(ses *session, m wire.Message) {
	r, err := wire.ParseRecord(m.Body, len(m.Files))
	if m.Err != nil {
		err = unix.EMFILE
	}
	if err != nil {
		m.CloseFiles()
		ses.answer(m.ID, failure(err))
		return
	}
	f := carve(r, m.Files)
	switch m.Kind {
	case wire.KindLaunch:
		s.launch(ses, m.ID, r, f)
	case wire.KindAdopt:
		ses.answer(m.ID, failure(s.adopt(r, f)))
	case wire.KindHold:
		s.table.hold(r, f)
		ses.answer(m.ID, wire.Result{})
	case wire.KindForget, wire.KindAbort:
		f.close()
		s.table.forget(r.Key, m.Kind == wire.KindAbort)
		ses.answer(m.ID, wire.Result{})
	case wire.KindReopen:
		s.reopen(ses, m.ID, r, f)
	case wire.KindAttach:
		s.attach(ses, m.ID, r, f)
	case wire.KindPing:
		f.close()
		s.table.empty() // as every request does, it takes the table's lock: a keeper that can't hangs
		ses.answer(m.ID, wire.Result{})
	case wire.KindShutdown:
		f.close()
		s.shutdown(ses, m.ID)
	default:
		f.close()
		ses.answer(m.ID, failure(fmt.Errorf("%w: request of kind %d", wire.ErrFormat, m.Kind)))
	}
}

// files are the descriptors of a record, by purpose; -1 stands for none.
type files struct {
	program  int
	slots    []int
	pidfd    int
	streams  []int
	journals []int
	relays   []int
	logs     []int
	holds    []int
}

// carve sorts the descriptors of a record, whose number ParseRecord has checked.
func carve(r *wire.Record, fds []int) *files {
	take := func(n int) []int {
		v := fds[:n:n]
		fds = fds[n:]
		return v
	}
	f := &files{program: -1, pidfd: -1}
	if r.HasProgram {
		f.program = take(1)[0]
	}
	f.slots = take(r.Slots)
	if r.HasPidFD {
		f.pidfd = take(1)[0]
	}
	f.streams = take(len(r.Streams))
	if r.Journals {
		f.journals = take(len(r.Streams))
	}
	if r.Relays {
		f.relays = take(len(r.Streams))
	}
	f.logs = take(r.Logs)
	f.holds = take(len(r.Holds))
	return f
}

func (f *files) closeProgram() {
	closeFD(f.program)
	closeFD(f.slots...)
	f.program, f.slots = -1, nil
}

func (f *files) close() {
	f.closeProgram()
	closeFD(f.pidfd)
	for _, fds := range [][]int{f.streams, f.journals, f.relays, f.logs, f.holds} {
		closeFD(fds...)
	}
}

func (s *Server) reopen(ses *session, id uint32, r *wire.Record, f *files) {
	c := s.table.copyOf(r.Key)
	if c == nil || len(f.logs) != 1 {
		f.close()
		ses.answer(id, wire.Result{Code: wire.Unknown})
		return
	}
	log := f.logs[0]
	f.logs = nil
	f.close()
	c.Reopen(log, r.Generation, func(err error) {
		if errors.Is(err, copier.ErrClosed) {
			ses.answer(id, wire.Result{Code: wire.Unknown})
			return
		}
		ses.answer(id, failure(err))
	})
}

func (s *Server) attach(ses *session, id uint32, r *wire.Record, f *files) {
	c, names := s.table.streamsOf(r.Key)
	if c == nil || len(f.streams) != 1 {
		f.close()
		ses.answer(id, wire.Result{Code: wire.Unknown})
		return
	}
	pipe := f.streams[0]
	f.streams = nil
	f.close()
	c.Attach(slices.Index(names, r.Streams[0]), pipe, r.Position, func(position int64, err error) {
		if errors.Is(err, copier.ErrNoStream) {
			ses.answer(id, wire.Result{Code: wire.Unknown})
			return
		}
		result := failure(err)
		result.Position = position
		ses.answer(id, result)
	})
}

// shutdown ends the keeper, if it keeps nothing. The exit of a oneshot that the daemon was sent just now is nothing.
func (s *Server) shutdown(ses *session, id uint32) {
	ses.inTurn(func() {
		if !s.endIfEmpty() {
			ses.answer(id, wire.Result{Code: wire.StillKept})
			return
		}
		ses.send(wire.Message{Kind: wire.KindDone, ID: id, Body: wire.Result{}.Append(nil)},
			func() { s.endOnce.Do(func() { close(s.end) }) })
	})
}

// failure makes a result of an error; nil is OK.
func failure(err error) wire.Result {
	if err == nil {
		return wire.Result{}
	}
	var step *launch.StepError
	if errors.As(err, &step) {
		return wire.Result{Code: wire.StepFailed, Step: step.Step, Errno: step.Errno}
	}
	r := wire.Result{Code: wire.Failed, Text: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		r.Errno = errno
	}
	return r
}
