package server

import (
	"sync"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// session is a connected daemon. What goes to it is queued, so that a daemon that doesn't read stops
// nothing here.
type session struct {
	conn *wire.Conn
	wake chan struct{} // has room for one

	mu     sync.Mutex
	out    []outgoing
	closed bool
}

type outgoing struct {
	message wire.Message // its files are closed once it is sent, or can't be; of no kind: there is none
	sent    func()       // called when it was sent; may be nil
}

func newSession(conn *wire.Conn) *session {
	return &session{conn: conn, wake: make(chan struct{}, 1)}
}

// send queues a message and takes over its files. A nil session drops it.
func (s *session) send(m wire.Message, sent func()) {
	if s == nil {
		m.CloseFiles()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		m.CloseFiles()
		return
	}
	s.out = append(s.out, outgoing{m, sent})
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// answer queues the answer to a request.
func (s *session) answer(id uint32, r wire.Result, files ...int) {
	s.send(wire.Message{Kind: wire.KindDone, ID: id, Body: r.Append(nil), Files: files}, nil)
}

// inTurn has f called when all that is queued was sent, and what is done then was done: the daemon may know of a message before that. It isn't
// called when the session ends before.
func (s *session) inTurn(f func()) { s.send(wire.Message{}, f) }

// write sends what is queued until the session is closed.
func (s *session) write() {
	for range s.wake {
		for _, o := range s.take() {
			var err error
			if o.message.Kind != 0 {
				err = s.conn.Send(o.message)
			}
			o.message.CloseFiles()
			if err != nil {
				s.close() // its reader sees the end too
			} else if o.sent != nil {
				o.sent()
			}
		}
	}
}

func (s *session) take() []outgoing {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.out
	s.out = nil
	return out
}

// close ends the conversation and drops what is queued. It may be called twice.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	for _, o := range s.out {
		o.message.CloseFiles()
	}
	s.out = nil
	close(s.wake)
	s.conn.Close()
}
