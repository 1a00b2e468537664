package registry

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Server is a running registry. Its methods may be called at any time.
type Server struct {
	listener net.Listener
	server   *http.Server

	mu       sync.Mutex
	hosts    map[string]http.Handler // the registry of each host name
	lies     map[string][]byte       // digest → what is answered instead
	logins   map[string]login        // by host
	requests []Request
}

// Request is one that the server got.
type Request struct {
	Method, Host, Path string
}

type login struct{ username, password string }

// Start serves on a free port of 127.0.0.1 until Close.
func Start() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s := &Server{listener: l, hosts: map[string]http.Handler{}, lies: map[string][]byte{}, logins: map[string]login{}}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { // ends with Close
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("test registry: %v", err)
		}
	}()
	return s, nil
}

// Close ends the server.
func (s *Server) Close() error { return s.server.Close() }

// Addr is the address to reach it at, host and port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// RequireLogin has the host ask for basic authentication from now on.
func (s *Server) RequireLogin(host, username, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins[host] = login{username, password}
}

// Requests returns those that came so far, without those of Push.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// WriteCerts fills dir with a hosts.toml for each host that has images and for the
// extra ones, which have this server as their mirror.
func (s *Server) WriteCerts(dir string, extra ...string) error {
	s.mu.Lock()
	hosts := extra
	for h := range s.hosts {
		hosts = append(hosts, h)
	}
	s.mu.Unlock()
	for _, host := range hosts {
		below := filepath.Join(dir, host)
		if err := os.MkdirAll(below, 0o755); err != nil {
			return fmt.Errorf("make mirror directory: %w", err)
		}
		text := fmt.Sprintf("server = \"http://%s\"\n\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", s.Addr(), s.Addr())
		if err := os.WriteFile(filepath.Join(below, "hosts.toml"), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write mirror: %w", err)
		}
	}
	return nil
}

// ServeHTTP answers a client; ns says which host it believes to talk to.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.URL.Query().Get("ns")
	if host == "" {
		host = r.Host // it was asked under its own address
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{r.Method, host, r.URL.Path})
	handler, lie, login := s.hosts[host], s.lies[path.Base(r.URL.Path)], s.logins[host]
	s.mu.Unlock()
	username, password, _ := r.BasicAuth()
	switch {
	case login.username != "" && (username != login.username || password != login.password):
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"login needed"}]}`, http.StatusUnauthorized)
	case lie != nil:
		answer(w, r, lie)
	case handler == nil:
		http.Error(w, `{"errors":[{"code":"NAME_UNKNOWN","message":"no such host here"}]}`, http.StatusNotFound)
	default:
		handler.ServeHTTP(w, r)
	}
}

// answer serves body as if it were what was asked for.
func answer(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Docker-Content-Digest", path.Base(r.URL.Path))
	media := "application/octet-stream"
	if strings.Contains(r.URL.Path, "/manifests/") {
		media = string(types.OCIManifestSchema1)
	}
	w.Header().Set("Content-Type", media)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have gone
	}
}
