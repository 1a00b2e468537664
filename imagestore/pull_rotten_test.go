package imagestore

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRootPullRottenMirror: bytes that aren't what their digest says are no reason to fail while another host may have the right ones.
func TestRootPullRottenMirror(t *testing.T) {
	for part, rotten := range map[string]func(r *http.Request, served *int32) bool{
		"blobs": func(r *http.Request, _ *int32) bool { return strings.Contains(r.URL.Path, "/blobs/") },
		"layer": func(r *http.Request, served *int32) bool {
			return strings.Contains(r.URL.Path, "/blobs/") && atomic.AddInt32(served, 1) > 1
		},
		"manifests": func(r *http.Request, _ *int32) bool { return strings.Contains(r.URL.Path, "/manifests/sha256") },
	} {
		t.Run(part, func(t *testing.T) {
			s := newTestStore(t)
			origin := serve(t, nil)
			var served, lies int32
			mirror := serve(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodGet || !rotten(r, &served) {
						next.ServeHTTP(w, r)
						return
					}
					atomic.AddInt32(&lies, 1)
					next.ServeHTTP(rot{w}, r)
				})
			})
			img := imageOf(t, layerOf(t, f("a", "1")))
			push(t, ref(origin, "app"), img)
			push(t, ref(mirror, "app"), img)
			writeHosts(t, s, origin, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", origin, mirror))
			mustPull(t, s, ref(origin, "app"))
			if lies == 0 {
				t.Error("the mirror wasn't asked")
			}
			wantClean(t, s, 1)

			// Where nobody has the right ones, the error tells of each.
			lies, served = 0, 0
			writeHosts(t, s, origin, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", mirror, mirror))
			if err := s.Remove(t.Context(), img0(t, s)); err != nil {
				t.Fatal(err)
			}
			_, err := s.Pull(t.Context(), ref(origin, "app"), nil)
			if !errors.Is(err, ErrCorrupt) || strings.Count(err.Error(), mirror+": ") != 2 || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			wantClean(t, s, 0)
		})
	}
}

func img0(t *testing.T, s *Store) string {
	t.Helper()
	list := s.Images()
	if len(list) != 1 {
		t.Fatalf("%d images", len(list))
	}
	return list[0].ID
}

// rot changes the bytes that pass.
type rot struct{ http.ResponseWriter }

func (r rot) Write(p []byte) (int, error) {
	changed := make([]byte, len(p))
	for i, b := range p {
		changed[i] = b ^ 1
	}
	return r.ResponseWriter.Write(changed)
}

// TestRootPullBusyLonger: a registry that asks for pauses, together longer than a stall may be, isn't stalling.
func TestRootPullBusyLonger(t *testing.T) {
	needRoot(t)
	cfg := testConfig(t)
	cfg.PullProgressTimeout = Duration(2 * time.Second)
	s := openStore(t, t.TempDir(), cfg)
	var asked atomic.Int32
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && asked.Add(1)%4 != 0 {
				w.Header().Set("Retry-After", strconv.Itoa(1))
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1"))))
	mustPull(t, s, ref(host, "app"))
}
