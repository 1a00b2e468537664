package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/berth-runtime/berth/sandbox"
)

// Runtime runs the sessions. Each method returns when its session is over; the
// streams are closed then.
type Runtime interface {
	Exec(ctx context.Context, container string, command []string, s sandbox.Streams) (exitCode int32, err error)
	Attach(ctx context.Context, container string, s sandbox.Streams) error
	PortForward(ctx context.Context, pod string, port int32, client io.ReadWriteCloser) error
}

// Wanted says which streams a client asked for.
type Wanted struct{ Stdin, Stdout, Stderr, TTY bool }

// What a token can stand for.
type (
	execRequest struct {
		container string
		command   []string
		wanted    Wanted
	}
	attachRequest struct {
		container string
		wanted    Wanted
	}
	forwardRequest struct {
		pod, uid string
		ports    []int32
	}
)

// creationTime is how long a client may take to open its streams.
const creationTime = 30 * time.Second

// Server serves sessions.
type Server struct {
	cfg      Config
	runtime  Runtime
	log      logrus.FieldLogger
	listener net.Listener
	base     url.URL
	http     *http.Server
	tokens   *tokens
}

// Listen makes a server that listens already; Serve answers.
func Listen(cfg Config, runtime Runtime, log logrus.FieldLogger) (*Server, error) {
	config, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for streams: %w", err)
	}
	s := &Server{
		cfg: cfg, runtime: runtime, log: log, listener: listener, tokens: newTokens(time.Now),
		base: url.URL{Scheme: "http", Host: hostOf(cfg.Address, listener.Addr())},
	}
	s.http = &http.Server{Handler: s.handler(), TLSConfig: config, ReadHeaderTimeout: creationTime, ErrorLog: stdlog.New(complaints{log}, "", 0)}
	if config != nil {
		s.base.Scheme = "https"
	}
	return s, nil
}

// complaints are what net/http says of clients.
type complaints struct{ log logrus.FieldLogger }

func (c complaints) Write(text []byte) (int, error) {
	c.log.WithFields(logrus.Fields{"op": "stream", "error": strings.TrimSpace(string(text))}).Debug("client refused")
	return len(text), nil
}

// hostOf is the configured host, whose name a certificate may have, with the port
// that is listened on.
func hostOf(configured string, listening net.Addr) string {
	host, _, err := net.SplitHostPort(configured)
	_, port, err2 := net.SplitHostPort(listening.String())
	if err != nil || err2 != nil {
		return listening.String()
	}
	return net.JoinHostPort(host, port)
}

// Serve answers until Close, and then returns nil.
func (s *Server) Serve() error {
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close takes no more clients. Sessions under way are their processes' to end.
func (s *Server) Close() error { return errors.Join(s.http.Close(), ignoreClosed(s.listener.Close())) }

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Exec returns the URL of a session that runs a command.
func (s *Server) Exec(container string, command []string, w Wanted) (string, error) {
	return s.url("exec", execRequest{container, command, w})
}

// Attach returns the URL of a session with a container's process.
func (s *Server) Attach(container string, w Wanted) (string, error) {
	return s.url("attach", attachRequest{container, w})
}

// PortForward returns the URL of a session with a pod's ports. Over SPDY the client
// names them, and ports may be empty. uid is Kubernetes' for the pod, which errors name too.
func (s *Server) PortForward(pod, uid string, ports []int32) (string, error) {
	return s.url("portforward", forwardRequest{pod, uid, ports})
}

func (s *Server) url(kind string, request any) (string, error) {
	token, err := s.tokens.give(request)
	if err != nil {
		return "", err
	}
	return s.base.JoinPath(kind, token).String(), nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{token}", serve(s, s.exec))
	mux.HandleFunc("/attach/{token}", serve(s, s.attach))
	mux.HandleFunc("/portforward/{token}", serve(s, s.forward))
	return mux
}

// serve takes the token and begins the session. A token for another kind of session
// is used up too.
func serve[R any](s *Server, session func(http.ResponseWriter, *http.Request, R)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		request, ok := s.tokens.take(r.PathValue("token")).(R)
		if !ok {
			http.NotFound(w, r)
			return
		}
		defer func() {
			if p := recover(); p != nil {
				s.log.WithFields(logrus.Fields{"op": "stream", "error": fmt.Sprintf("%v\n%s", p, debug.Stack())}).Error("session panicked")
			}
		}()
		session(w, r, request)
	}
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request, in execRequest) {
	if isV5(r) {
		s.serveV5(w, r, in.wanted, func(st sandbox.Streams) error { return s.run(r.Context(), in, st) })
		return
	}
	remotecommand.ServeExec(w, r, &adapter{s}, "", "", in.container, in.command, options(in.wanted),
		time.Duration(s.cfg.IdleTimeout), creationTime, remotecommand.SupportedStreamingProtocols)
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request, in attachRequest) {
	if isV5(r) {
		s.serveV5(w, r, in.wanted, func(st sandbox.Streams) error { return s.join(r.Context(), in.container, st) })
		return
	}
	remotecommand.ServeAttach(w, r, &adapter{s}, "", "", in.container, options(in.wanted),
		time.Duration(s.cfg.IdleTimeout), creationTime, remotecommand.SupportedStreamingProtocols)
}

func (s *Server) forward(w http.ResponseWriter, r *http.Request, in forwardRequest) {
	session := func(w http.ResponseWriter, r *http.Request) {
		portforward.ServePortForward(w, r, &adapter{s}, in.pod, in.uid, &portforward.V4Options{Ports: in.ports},
			time.Duration(s.cfg.IdleTimeout), creationTime, portforward.SupportedProtocols)
	}
	if isTunnel(r) {
		s.serveTunnel(w, r, session)
		return
	}
	session(w, r)
}

// run runs an exec; the error is an exitError when its code isn't 0.
func (s *Server) run(ctx context.Context, in execRequest, st sandbox.Streams) error {
	code, err := s.runtime.Exec(ctx, in.container, in.command, st)
	if err == nil && code != 0 {
		return exitError(code)
	}
	return onOneLine(err)
}

// join attaches.
func (s *Server) join(ctx context.Context, container string, st sandbox.Streams) error {
	return onOneLine(s.runtime.Attach(ctx, container, st))
}

func options(w Wanted) *remotecommand.Options {
	return &remotecommand.Options{Stdin: w.Stdin, Stdout: w.Stdout, Stderr: w.Stderr, TTY: w.TTY}
}
