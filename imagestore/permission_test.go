package imagestore

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRootPullPermissionIsNotShared: who has no right to an image doesn't get it by another's pull, while that runs and when it is over.
func TestRootPullPermissionIsNotShared(t *testing.T) {
	s := newTestStore(t)
	open, blobs := make(chan struct{}), atomic.Int32{}
	var guarded atomic.Bool
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			if guarded.Load() && (user != "some" && user != "other" || password != "secret") {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				blobs.Add(1)
				<-open
			}
			next.ServeHTTP(w, r)
		})
	})
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1"))))
	guarded.Store(true)
	done := make(chan error, 2)
	for _, user := range []string{"some", "other"} { // both may, each by a pull of its own
		go func() {
			_, err := s.Pull(t.Context(), ref(host, "app"), &Auth{Username: user, Password: "secret"})
			done <- err
		}()
	}
	waitFor(t, func() bool { return s.waiting() == 2 && blobs.Load() > 0 })
	wrong := []*Auth{nil, {Username: "some", Password: "wrong"}, {Username: "nobody", Password: "secret"}}
	for _, auth := range wrong {
		if _, err := s.Pull(t.Context(), ref(host, "app"), auth); !errors.Is(err, ErrDenied) {
			t.Errorf("while it is pulled, by %+v: %v", auth, err)
		}
	}
	close(open)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, auth := range wrong {
		if _, err := s.Pull(t.Context(), ref(host, "app"), auth); !errors.Is(err, ErrDenied) {
			t.Errorf("when it is here, by %+v: %v", auth, err)
		}
	}
	if got := blobs.Load(); got > 3 { // the configuration for each, the layer once
		t.Errorf("%d blobs were fetched", got)
	}
}
