package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// busyFor answers so often with a status.
func busyFor(times int32, status int, retryAfter string) func(http.ResponseWriter, *http.Request) bool {
	var left atomic.Int32
	left.Store(times)
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if left.Add(-1) < 0 {
			return true
		}
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		return false
	}
}

func TestBusyHost(t *testing.T) {
	for test, given := range map[string]struct {
		times  int32
		status int
		after  string
		want   error
		says   string
		least  time.Duration
	}{
		"too many requests, once":    {1, 429, "", nil, "", 0},
		"too many requests, thrice":  {3, 429, "", nil, "", 0},
		"not available, thrice":      {3, 503, "", nil, "", 0},
		"bad gateway":                {2, 502, "", nil, "", 0},
		"it says when":               {1, 429, "1", nil, "", time.Second},
		"it says: at once":           {1, 503, "Thu, 01 Jan 2015 00:00:00 GMT", nil, "", 0},
		"it says when, too far away": {1, 429, "86400", ErrUnavailable, "24h0m0s", 0},
		"always":                     {100, 429, "", ErrUnavailable, "429", 0},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.push(t, "app")
			s.guard = busyFor(given.times, given.status, given.after)
			started := time.Now()
			err := get(t, newClient(""), s.host+"/app", nil)
			if !errors.Is(err, given.want) || !strings.Contains(fmt.Sprint(err), given.says) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(started); took < given.least || took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestBusyMirror: nobody waits for a mirror, and it isn't asked twice for the name.
func TestBusyMirror(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	origin.push(t, "app")
	var asked atomic.Int32
	mirror.guard = func(w http.ResponseWriter, _ *http.Request) bool {
		asked.Add(1)
		w.Header().Set("Retry-After", "20")
		w.WriteHeader(http.StatusTooManyRequests)
		return false
	}
	dir := t.TempDir()
	configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin.host, mirror.host))
	started := time.Now()
	if err := get(t, newClient(dir), origin.host+"/app", nil); err != nil {
		t.Error(err)
	}
	if took := time.Since(started); asked.Load() != 1 || took > 5*time.Second {
		t.Errorf("asked %d times, in %v", asked.Load(), took)
	}
}

// TestHungHost: a mirror that takes requests and says nothing costs its time, and the next is asked.
func TestHungHost(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	origin.push(t, "app")
	mirror.guard = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return false }
	dir := t.TempDir()
	configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin.host, mirror.host))
	c := newClient(dir)
	c.Stall = 300 * time.Millisecond
	if err := get(t, c, origin.host+"/app", nil); err != nil {
		t.Error(err)
	}
	origin.guard = mirror.guard
	err := get(t, c, origin.host+"/app", nil)
	if !errors.Is(err, ErrUnavailable) || strings.Count(fmt.Sprint(err), "no answer for 300ms") != 2 {
		t.Errorf("got %v", err)
	}
}

// drip sends blobs a few bytes at a time.
func drip(every time.Duration) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			return true
		}
		w.Header().Set("Content-Length", "10000")
		w.WriteHeader(http.StatusOK)
		for range 10000 {
			if _, err := io.WriteString(w, "x"); err != nil {
				break
			}
			w.(http.Flusher).Flush()
			select {
			case <-time.After(every):
			case <-r.Context().Done():
				return false
			}
		}
		return false
	}
}

// TestSlowHost: what drips is given up for the next host; without one, it is an error in the end.
func TestSlowHost(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	origin.push(t, "app")
	mirror.guard = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			origin.backend.ServeHTTP(w, r)
			return false
		}
		return drip(10*time.Millisecond)(w, r)
	}
	dir := t.TempDir()
	configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin.host, mirror.host))
	c := newClient(dir)
	c.Stall, c.MinRate = 400*time.Millisecond, 100_000
	err := get(t, c, origin.host+"/app", nil)
	if err != nil {
		t.Errorf("with another host: %v", err)
	}
	origin.guard = mirror.guard
	if err = get(t, c, origin.host+"/app", nil); !errors.Is(err, ErrUnavailable) || strings.Count(fmt.Sprint(err), "too slow") != 2 {
		t.Errorf("without one: %v", err)
	}
}

func TestPaceOfSlowReader(t *testing.T) {
	var ended atomic.Bool
	p := keepPace(func(error) { ended.Store(true) }, 20*time.Millisecond, 1_000_000)
	defer p.stop()
	for range 10 { // a reader that has other things to do
		p.waits()
		p.got(1)
		time.Sleep(10 * time.Millisecond)
	}
	if ended.Load() {
		t.Error("a slow reader's connection was ended")
	}
}
