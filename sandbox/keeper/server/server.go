package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper/copier"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// Config is what a keeper is started with.
type Config struct {
	Listener int       // a listening unix SOCK_SEQPACKET socket, which Serve takes over
	Log      io.Writer // a line an event
}

// Server is a keeper: it carries out what the daemon asks for.
type Server struct {
	listener *os.File
	log      *eventLog
	copier   *copier.Copier
	table    *table
	launcher *launch.Launcher
	end      chan struct{} // closed when the keeper is to end
	endOnce  sync.Once
}

// maxZygotes bounds how many launches are in clone3 at once: that of a pod's namespaces takes half a millisecond.
const maxZygotes = 4

// Serve is the keeper's life: it returns nil when it was told to end and keeps nothing, or when ctx
// ends. It makes the process a child subreaper and reaps all children of the process: nothing else in
// it may start any.
func Serve(ctx context.Context, cfg Config) error {
	s, err := newServer(cfg)
	if err != nil {
		return err
	}
	// Notify, not Ignore: an ignored signal would stay ignored in what we launch (execve(2)).
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	failed := make(chan error, 2)
	go func() { failed <- s.copier.Run() }() // ends by copier.Close
	go func() { failed <- s.accept() }()     // ends by listener.Close
	defer s.copier.Close()
	defer s.listener.Close()
	defer s.launcher.Close()
	s.log.event("keeper started", "pid", os.Getpid())
	for {
		select {
		case <-children:
			s.table.reap()
		case sig := <-signals:
			s.log.event("signal received", "op", sig.String())
			if sig == unix.SIGTERM && s.endIfEmpty() {
				return nil
			}
		case <-s.end:
			return nil
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		}
	}
}

func newServer(cfg Config) (*Server, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	if err := unix.SetNonblock(cfg.Listener, true); err != nil {
		return nil, fmt.Errorf("set listener non-blocking: %w", err)
	}
	unix.CloseOnExec(cfg.Listener)
	s := &Server{
		listener: os.NewFile(uintptr(cfg.Listener), "keeper.sock"),
		log:      &eventLog{w: cfg.Log},
		launcher: launch.New(min(runtime.NumCPU(), maxZygotes)),
		end:      make(chan struct{}),
	}
	var err error
	s.copier, err = copier.New(func(key string, err error) {
		if err != nil {
			s.log.event("log refuses, stream waits", "container", key, "error", err)
			return
		}
		s.log.event("log takes again", "container", key)
	})
	s.table = newTable(s.copier)
	return s, err
}

// acceptPause is how long a connection waits to be taken when there is nothing to take it with.
const acceptPause = 100 * time.Millisecond

// outOf says whether an error is a lack that may pass. The keeper must not end for it: whose streams would
// it be? (accept(2))
func outOf(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// accept takes connections until the listener is closed.
func (s *Server) accept() error {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return fmt.Errorf("use listener: %w", err)
	}
	lacking := false
	for {
		var fd int
		var aerr error
		err := raw.Read(func(l uintptr) bool {
			fd, _, aerr = unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return aerr != unix.EAGAIN
		})
		switch {
		case err != nil:
			return fmt.Errorf("accept daemon: %w", err)
		case errors.Is(aerr, unix.EINTR) || errors.Is(aerr, unix.ECONNABORTED):
			continue
		case outOf(aerr): // who connects waits in the listener's queue
			if !lacking {
				s.log.event("connection not taken yet", "error", aerr)
			}
			lacking = true
			time.Sleep(acceptPause)
			continue
		case aerr != nil:
			return fmt.Errorf("accept daemon: %w", aerr)
		}
		lacking = false
		conn, err := wire.NewConn(fd)
		if err != nil {
			s.log.event("connection refused", "error", err)
			continue
		}
		go s.serve(conn) // ends with the connection
	}
}

// serve is a connection's life.
func (s *Server) serve(conn *wire.Conn) {
	defer conn.Close()
	ses, err := s.greet(conn)
	if err != nil {
		s.log.event("connection refused", "error", err)
		return
	}
	go ses.write() // ends with the connection, or by ses.close
	for {
		m, err := conn.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.log.event("connection lost", "error", err)
			}
			break
		}
		s.request(ses, m)
	}
	s.table.leave(ses)
}

// greet answers the daemon's hello and tells it all that is kept.
func (s *Server) greet(conn *wire.Conn) (*session, error) {
	uid, err := conn.PeerUID()
	if err != nil {
		return nil, err
	}
	if int(uid) != os.Getuid() {
		return nil, fmt.Errorf("daemon of user %d: %w", uid, unix.EPERM)
	}
	m, err := conn.Receive()
	if err != nil {
		return nil, err
	}
	m.CloseFiles()
	hello, err := wire.ParseHello(m.Body)
	if err != nil || m.Kind != wire.KindHello {
		return nil, fmt.Errorf("%w: no hello: %w", wire.ErrFormat, err)
	}
	ses := newSession(conn)
	keys, taken := s.table.enter(ses)
	answer := wire.Hello{Version: wire.Version, PID: os.Getpid(), Refused: !taken}
	err = conn.Send(wire.Message{Kind: wire.KindHello, Body: answer.Append(nil)})
	if !taken {
		return nil, fmt.Errorf("another daemon is connected, that of process %d: %w", hello.PID, unix.EBUSY)
	}
	for _, key := range keys {
		if err == nil {
			err = s.sendKept(conn, key)
		}
	}
	if err == nil {
		err = conn.Send(wire.Message{Kind: wire.KindListed})
	}
	if err != nil {
		s.table.leave(ses)
		return nil, err
	}
	s.log.event("daemon connected", "pid", hello.PID)
	return ses, nil
}

// endIfEmpty says whether the keeper may end, for it keeps nothing.
func (s *Server) endIfEmpty() bool {
	if !s.table.empty() {
		return false
	}
	s.log.event("keeper ends", "pid", os.Getpid())
	return true
}

// sendKept tells a new daemon what is kept under a key. It waits for the daemon.
func (s *Server) sendKept(conn *wire.Conn, key string) error {
	p, r, files, err := s.table.kept(key)
	if r == nil {
		return nil
	}
	m := wire.Message{Kind: wire.KindKept, Body: r.Append(nil), Files: files}
	defer m.CloseFiles()
	if err != nil {
		return fmt.Errorf("duplicate descriptors of %s: %w", key, err)
	}
	if err := conn.Send(m); err != nil {
		return err
	}
	if r.Oneshot && r.Exit != nil {
		s.table.forgetOneshot(key, p)
	}
	return nil
}
