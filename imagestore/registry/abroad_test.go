package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRedirectsTakeNothingAlong: headers that hosts.toml has for a registry, which may be keys, stay there.
func TestRedirectsTakeNothingAlong(t *testing.T) {
	origin, storage := newServer(t), newServer(t)
	storage.push(t, "app")
	storage.guard = func(_ http.ResponseWriter, r *http.Request) bool {
		for _, name := range []string{"X-Api-Key", "Authorization", "Referer"} {
			if value := r.Header.Get(name); value != "" {
				t.Errorf("the storage was shown %s: %s", name, value)
			}
		}
		if !strings.Contains(r.Header.Get("Accept"), "manifest") {
			t.Errorf("the storage was asked for %q", r.Header.Get("Accept"))
		}
		return true
	}
	var shown atomic.Int32
	origin.guard = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Api-Key") == "hush" {
			shown.Add(1)
		}
		if !strings.HasSuffix(r.URL.RawQuery, "again") { // within the registry it goes along
			http.Redirect(w, r, r.URL.Path+"?again", http.StatusTemporaryRedirect)
			return false
		}
		http.Redirect(w, r, "http://"+storage.host+r.URL.Path, http.StatusTemporaryRedirect)
		return false
	}
	dir := t.TempDir()
	configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[header]\nX-Api-Key = \"hush\"\nAuthorization = \"Basic dTpw\"\n", origin.host))
	if err := get(t, newClient(dir), origin.host+"/app", nil); err != nil {
		t.Error(err)
	}
	if shown.Load() != 4 {
		t.Errorf("the registry was shown its header %d times", shown.Load())
	}
}

// TestTokenServerRedirects: a password isn't passed on by a token server that redirects, whichever way it is sent.
func TestTokenServerRedirects(t *testing.T) {
	for _, refusesPost := range []bool{false, true} {
		thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if strings.Contains(string(body), "pass") || r.Header.Get("Authorization") != "" {
				t.Errorf("was shown %q, %q", body, r.Header.Get("Authorization"))
			}
			_, _ = io.WriteString(w, `{"token":"anonymous","access_token":"anonymous"}`)
		}))
		t.Cleanup(thief.Close)
		tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if refusesPost && r.Method == http.MethodPost {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
		}))
		t.Cleanup(tokens.Close)
		s := newServer(t)
		s.push(t, "app")
		s.guard = wantBearer("for the user", tokens.URL)
		err := get(t, newClient(""), s.host+"/app", &Auth{Username: "user", Password: "pass"})
		if err == nil || strings.Contains(err.Error(), "pass&") {
			t.Errorf("got %v", err)
		}
		if !refusesPost && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), strings.TrimPrefix(thief.URL, "http://"))) {
			t.Errorf("doesn't say where it leads: %v", err)
		}
	}
}

func TestSameHost(t *testing.T) {
	for _, test := range []struct {
		first, now string
		same       bool
	}{
		{"https://a.test", "https://A.test", true},
		{"https://a.test", "https://a.test:443", true},
		{"https://a.test:443", "https://a.test", true},
		{"http://a.test", "http://a.test:80", true},
		{"http://a.test", "https://a.test", true},
		{"http://a.test:5000", "https://a.test:5000", true},
		{"https://[::1]", "https://[::1]:443", true},
		{"https://[::443]", "https://[::]", false},
		{"https://a.test", "http://a.test", false},
		{"https://a.test:443", "http://a.test:443", false},
		{"https://a.test", "https://a.test:80", false},
		{"https://a.test", "https://a.test:5000", false},
		{"https://a.test:1443", "https://a.test:1", false},
		{"https://a.test", "https://b.a.test", false},
	} {
		first, err := url.Parse(test.first)
		now, err2 := url.Parse(test.now)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if got := sameHost(first, now); got != test.same {
			t.Errorf("%s leads to %s: the same is %v", test.first, test.now, got)
		}
	}
}

// closeNote notes that it was closed.
type closeNote struct {
	io.Reader
	closed atomic.Bool
}

func (c *closeNote) Close() error {
	c.closed.Store(true)
	return nil
}

// TestRefusedRedirectClosesBody: http.RoundTripper has bodies closed whatever comes of the request.
func TestRefusedRedirectClosesBody(t *testing.T) {
	first, err := http.NewRequest(http.MethodPost, "http://tokens.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	body := &closeNote{Reader: strings.NewReader("password=pass")}
	next, err := http.NewRequest(http.MethodPost, "http://elsewhere.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	next.Response = &http.Response{Request: first}
	if _, err := (&abroad{http.DefaultTransport}).RoundTrip(next); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if !body.closed.Load() {
		t.Error("the body is left open")
	}
}
