package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

// stalling serves blobs up to half and then nothing more.
func stalling(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(&halfWriter{ResponseWriter: w, left: 40_000, ctx: r.Context()}, r)
	})
}

type halfWriter struct {
	http.ResponseWriter
	left int
	ctx  context.Context
}

func (h *halfWriter) Write(p []byte) (int, error) {
	if n := min(h.left, len(p)); n > 0 {
		h.left -= n
		return h.ResponseWriter.Write(p[:n])
	}
	if flusher, is := h.ResponseWriter.(http.Flusher); is {
		flusher.Flush()
	}
	<-h.ctx.Done()
	return 0, h.ctx.Err()
}

func randomImage(t testing.TB, layers int, size int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	return configured(t, img, func(c *v1.ConfigFile) { c.OS, c.Architecture = "linux", runtime.GOARCH })
}

func TestRootPullWatchdog(t *testing.T) {
	needRoot(t)
	cfg := testConfig(t)
	cfg.PullProgressTimeout = Duration(200 * time.Millisecond)
	s := openStore(t, t.TempDir(), cfg)
	host := serve(t, stalling)
	push(t, ref(host, "app"), randomImage(t, 2, 200_000))
	_, err := s.Pull(t.Context(), ref(host, "app"), nil)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no data for 200ms") || !strings.Contains(err.Error(), "layer sha256:") {
		t.Errorf("got %v", err)
	}
	wantClean(t, s, 0)
}

// TestRootPullSlowAndSteady: what brings little, but more than the least that is allowed, isn't stalling, however small a part of a layer it is.
func TestRootPullSlowAndSteady(t *testing.T) {
	needRoot(t)
	cfg := testConfig(t)
	cfg.PullProgressTimeout, cfg.PullMinRate = Duration(300*time.Millisecond), 1000
	s := openStore(t, t.TempDir(), cfg)
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				w = drip{w}
			}
			next.ServeHTTP(w, r)
		})
	})
	push(t, ref(host, "app"), randomImage(t, 1, 30_000))
	mustPull(t, s, ref(host, "app"))
}

// drip sends a kilobyte at a time.
type drip struct{ http.ResponseWriter }

func (d drip) Write(p []byte) (int, error) {
	for at := 0; at < len(p); at += 1000 {
		if n, err := d.ResponseWriter.Write(p[at:min(at+1000, len(p))]); err != nil {
			return at + n, err
		}
		d.ResponseWriter.(http.Flusher).Flush()
		time.Sleep(50 * time.Millisecond)
	}
	return len(p), nil
}

func TestRootPullCancel(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, stalling)
	push(t, ref(host, "app"), randomImage(t, 3, 200_000))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := s.Pull(ctx, ref(host, "app"), nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("took %v to stop", took)
	}
	waitFor(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.held) == 0 })
	wantClean(t, s, 0)
}

// TestRootPullBroken: connections that break are gone on with, at the same place.
func TestRootPullBroken(t *testing.T) {
	s := newTestStore(t)
	var requests, breaks atomic.Int32
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				if requests.Add(1)%2 == 1 {
					w = &breakingWriter{ResponseWriter: w, left: 150_000, breaks: &breaks}
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	img := randomImage(t, 2, 500_000)
	push(t, ref(host, "app"), img)
	if got := mustPull(t, s, ref(host, "app")); got.ID != configName(t, img) {
		t.Errorf("id %s", got.ID)
	}
	if breaks.Load() == 0 {
		t.Error("nothing broke")
	}
	wantClean(t, s, 2)
}

type breakingWriter struct {
	http.ResponseWriter
	left   int
	breaks *atomic.Int32
}

func (b *breakingWriter) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		b.breaks.Add(1)
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

// TestRootPullCorrupt: what differs from what was promised is refused, named, and leaves nothing; the next pull works.
func TestRootPullCorrupt(t *testing.T) {
	img := imageOf(t, layerOf(t, f("a", strings.Repeat("content", 1000))), layerOf(t, f("b", "2")))
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	bad, err := layers[1].Digest()
	if err != nil {
		t.Fatal(err)
	}
	replaced, err := layerOf(t, f("b", "3")).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	other, err := io.ReadAll(replaced)
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string][]byte{"another layer": other, "cut short": other[:20], "nothing": {}, "longer": append(other, make([]byte, 5000)...)} {
		t.Run(name, func(t *testing.T) {
			s := newTestStore(t)
			var honest atomic.Bool
			host := serve(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, bad.String()) && !honest.Load() {
						w.Write(answer)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			push(t, ref(host, "app"), img)
			_, err := s.Pull(t.Context(), ref(host, "app"), nil)
			if name != "nothing" && name != "cut short" && !errors.Is(err, ErrCorrupt) || err == nil || !strings.Contains(err.Error(), "layer "+bad.String()) {
				t.Errorf("got %v", err)
			}
			wantClean(t, s, 0)
			if len(s.Images()) != 0 {
				t.Error("an image is listed")
			}
			honest.Store(true)
			mustPull(t, s, ref(host, "app"))
			wantClean(t, s, 2)
		})
	}
}

func TestRootPullTooLarge(t *testing.T) {
	needRoot(t)
	cfg := testConfig(t)
	cfg.MaxImageEntries = 2
	s := openStore(t, t.TempDir(), cfg)
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1"), f("b", "1")), layerOf(t, f("c", "1"))))
	if _, err := s.Pull(t.Context(), ref(host, "app"), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	wantClean(t, s, 0)
}

// TestRootPullErrors: each host that was asked is named.
func TestRootPullErrors(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir(), testConfig(t))
	mirror, origin := serve(t, nil), serve(t, nil)
	writeHosts(t, s, origin, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin, mirror))
	_, err := s.Pull(t.Context(), ref(origin, "missing:1"), nil)
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	for _, part := range []string{origin + "/missing:1", mirror + ": ", origin + ": "} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v doesn't name %s", err, part)
		}
	}
	if _, err := s.Pull(t.Context(), "127.0.0.1:1/app", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Pull(t.Context(), "UPPER//case", nil); !errors.Is(err, ErrInvalidReference) {
		t.Errorf("got %v", err)
	}
	writeHosts(t, s, origin, "server = broken [")
	if _, err := s.Pull(t.Context(), ref(origin, "app"), nil); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "hosts.toml") {
		t.Errorf("got %v", err)
	}
}
