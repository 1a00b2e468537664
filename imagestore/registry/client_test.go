package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// server is a registry on loopback that remembers what it was shown.
type server struct {
	host    string
	backend http.Handler
	guard   func(w http.ResponseWriter, r *http.Request) bool // answers by itself when it returns false

	mu    sync.Mutex
	shown []string // Authorization headers
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{backend: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	s.host = strings.TrimPrefix(listener.URL, "http://")
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if auth := r.Header.Get("Authorization"); auth != "" {
		s.mu.Lock()
		s.shown = append(s.shown, auth)
		s.mu.Unlock()
	}
	if s.guard != nil && !s.guard(w, r) {
		return
	}
	s.backend.ServeHTTP(w, r)
}

func (s *server) secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown
}

func (s *server) push(t *testing.T, repository string) {
	t.Helper()
	guard := s.guard
	s.guard = nil
	defer func() { s.guard = guard }()
	ref, err := name.ParseReference(s.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(remote.Write(ref, img), remote.WriteIndex(ref.Context().Tag("empty-index"), empty.Index)); err != nil {
		t.Fatal(err)
	}
}

func named(t *testing.T, s string) reference.Named {
	t.Helper()
	ref, err := reference.ParseDockerRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func newClient(dir string) *Client {
	c := New(Options{ConfigDir: dir, UserAgent: "berth"})
	c.busyPause = time.Millisecond
	return c
}

// get resolves a name and reads its manifest.
func get(t *testing.T, c *Client, ref string, auth *Auth) error {
	repo, desc, err := c.Resolve(t.Context(), named(t, ref), auth)
	if err != nil {
		return err
	}
	defer repo.Close()
	blob, err := repo.Fetch(t.Context(), desc)
	if err != nil {
		return err
	}
	defer blob.Close()
	content, err := io.ReadAll(blob)
	if err == nil && int64(len(content)) != desc.Size {
		err = fmt.Errorf("%d bytes of %d", len(content), desc.Size)
	}
	return err
}

// wantBasic guards a registry by user name and password.
func wantBasic(user, password string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		u, p, _ := r.BasicAuth()
		if u == user && p == password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return false
	}
}

// wantBearer guards a registry by a token; asked for without one it names a token server.
func wantBearer(token, realm string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer "+token {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="test",scope="repository:app:pull"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return false
	}
}

func TestAuthKinds(t *testing.T) {
	// The token server takes a user's password, or an identity token as OAuth's refresh token.
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		if r.Form.Get("refresh_token") == "identity" || r.Form.Get("password") == "pass" && r.Form.Get("username") == "user" {
			json.NewEncoder(w).Encode(map[string]string{"access_token": "access", "token": "access"})
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(tokens.Close)
	good := &Auth{Username: "user", Password: "pass"}
	for test, given := range map[string]struct {
		guard func(http.ResponseWriter, *http.Request) bool
		auth  *Auth
		want  error
	}{
		"basic":               {wantBasic("user", "pass"), good, nil},
		"basic, auth":         {wantBasic("user", "pass"), &Auth{Auth: base64.StdEncoding.EncodeToString([]byte("user:pass"))}, nil},
		"basic, wrong":        {wantBasic("user", "pass"), &Auth{Username: "user", Password: "guess"}, ErrDenied},
		"basic, none":         {wantBasic("user", "pass"), nil, ErrDenied},
		"token, password":     {wantBearer("access", tokens.URL), good, nil},
		"token, identity":     {wantBearer("access", tokens.URL), &Auth{IdentityToken: "identity"}, nil},
		"token, wrong":        {wantBearer("access", tokens.URL), &Auth{IdentityToken: "guess"}, ErrDenied},
		"token, none":         {wantBearer("access", tokens.URL), nil, ErrDenied},
		"registry token":      {wantBearer("ready", tokens.URL), &Auth{RegistryToken: "ready"}, nil},
		"registry, wrong":     {wantBearer("ready", tokens.URL), &Auth{RegistryToken: "guess"}, ErrDenied},
		"for another host":    {wantBasic("user", "pass"), &Auth{Username: "user", Password: "pass", ServerAddress: "https://example.com"}, ErrDenied},
		"token, another host": {wantBearer("ready", tokens.URL), &Auth{RegistryToken: "ready", ServerAddress: "example.com"}, ErrDenied},
	} {
		t.Run(test, func(t *testing.T) {
			s := newServer(t)
			s.push(t, "app")
			s.guard = given.guard
			err := get(t, newClient(""), s.host+"/app", given.auth)
			if !errors.Is(err, given.want) {
				t.Errorf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "pass") || strings.Contains(err.Error(), "guess")) {
				t.Errorf("a secret is in %v", err)
			}
			if given.auth != nil && given.auth.ServerAddress != "" && len(s.secrets()) > 0 {
				t.Errorf("was shown %v", s.secrets())
			}
		})
	}
}

// TestAuthStaysHome: neither a mirror nor the target of a redirect sees the registry's credentials.
func TestAuthStaysHome(t *testing.T) {
	for test, auth := range map[string]*Auth{"basic": {Username: "user", Password: "pass"}, "token": {RegistryToken: "ready"}} {
		t.Run(test, func(t *testing.T) {
			origin, mirror, storage := newServer(t), newServer(t), newServer(t)
			storage.push(t, "app")
			ask := func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("WWW-Authenticate", `Basic realm="give it to me"`)
				w.WriteHeader(http.StatusUnauthorized)
				return false
			}
			mirror.guard = ask
			wanted := wantBasic("user", "pass")
			if auth.RegistryToken != "" {
				wanted = wantBearer("ready", "")
			}
			origin.guard = func(w http.ResponseWriter, r *http.Request) bool {
				if !wanted(w, r) {
					return false
				}
				http.Redirect(w, r, "http://"+storage.host+r.URL.Path, http.StatusTemporaryRedirect)
				return false
			}
			dir := t.TempDir()
			configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin.host, mirror.host))
			if err := get(t, newClient(dir), origin.host+"/app", auth); err != nil {
				t.Error(err)
			}
			if len(mirror.secrets())+len(storage.secrets()) > 0 {
				t.Errorf("the mirror was shown %v, the storage %v", mirror.secrets(), storage.secrets())
			}
		})
	}
}

func configure(t *testing.T, dir, host, content string) {
	t.Helper()
	at := filepath.Join(dir, strings.Replace(host, ":", "_", 1)+"_")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "hosts.toml"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestResolveErrors(t *testing.T) {
	fail := func(status int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return false }
	}
	for test, given := range map[string]struct {
		mirror, origin int
		want           error
	}{
		"nobody has it":        {404, 404, ErrNotFound},
		"the mirror is down":   {503, 404, ErrNotFound},
		"the registry is down": {404, 503, ErrUnavailable},
		"it is forbidden":      {404, 403, ErrDenied},
		"too many requests":    {404, 429, ErrUnavailable},
	} {
		t.Run(test, func(t *testing.T) {
			origin, mirror := newServer(t), newServer(t)
			origin.guard, mirror.guard = fail(given.origin), fail(given.mirror)
			dir := t.TempDir()
			configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin.host, mirror.host))
			err := get(t, newClient(dir), origin.host+"/app", nil)
			if !errors.Is(err, given.want) {
				t.Errorf("got %v", err)
			}
			for _, host := range []string{mirror.host, origin.host} {
				if !strings.Contains(fmt.Sprint(err), host+": ") {
					t.Errorf("%v doesn't name %s", err, host)
				}
			}
			if strings.Contains(fmt.Sprint(err), "\n") {
				t.Errorf("several lines: %q", err)
			}
		})
	}
}

// TestResolveCapabilities: a host that may not resolve isn't asked what a tag is, and is asked for a digest.
func TestResolveCapabilities(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	origin.push(t, "app")
	var asked []string
	mirror.guard = func(w http.ResponseWriter, r *http.Request) bool {
		asked = append(asked, r.URL.Path)
		return true
	}
	dir := t.TempDir()
	configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\"]\n", origin.host, mirror.host))
	c := newClient(dir)
	repo, desc, err := c.Resolve(t.Context(), named(t, origin.host+"/app:latest"), nil)
	if err != nil {
		t.Fatal(err)
	}
	repo.Close()
	if len(asked) != 0 {
		t.Errorf("asked for %v", asked)
	}
	if err := get(t, c, origin.host+"/app@"+desc.Digest.String(), nil); err != nil {
		t.Fatal(err)
	}
	if len(asked) == 0 {
		t.Error("not asked for a digest")
	}
}

func TestResolveStops(t *testing.T) {
	s := newServer(t)
	s.guard = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return false }
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, _, err := newClient("").Resolve(ctx, named(t, s.host+"/app"), nil); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestFetchLongerThanSaid: the registry sends more than the descriptor says.
func TestFetchLongerThanSaid(t *testing.T) {
	s := newServer(t)
	s.push(t, "app")
	repo, desc, err := newClient("").Resolve(t.Context(), named(t, s.host+"/app"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	blob, err := repo.Fetch(t.Context(), ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size - 10})
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if _, err := io.ReadAll(blob); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}
