package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestManifestOfUnknownType: whatever type a registry gives a manifest, it is asked for as one, so that its reader can say what is wrong with it.
func TestManifestOfUnknownType(t *testing.T) {
	body := []byte(`{"schemaVersion":1,"fsLayers":[]}`)
	for _, mediaType := range []string{"application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json", "application/x-thing"} {
		s := newServer(t)
		s.guard = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", mediaType)
				w.Header().Set("Docker-Content-Digest", digest.FromBytes(body).String())
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				if r.Method == http.MethodGet {
					_, _ = w.Write(body)
				}
				return false
			}
			return true
		}
		if err := get(t, newClient(""), s.host+"/app", nil); err != nil {
			t.Errorf("%s: %v", mediaType, err)
		}
	}
}

// TestWebPage: what answers everything with a page, a portal or a proxy, is no registry, and the next host is asked.
func TestWebPage(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	origin.push(t, "app")
	page := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<html>log in first</html>")
		return false
	}
	mirror.guard = page
	dir := t.TempDir()
	configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin.host, mirror.host))
	if err := get(t, newClient(dir), origin.host+"/app", nil); err != nil {
		t.Errorf("with another host: %v", err)
	}
	origin.guard = page
	if err := get(t, newClient(dir), origin.host+"/app", nil); !errors.Is(err, ErrUnavailable) || strings.Count(err.Error(), "text/html") != 2 {
		t.Errorf("without one: %v", err)
	}
}

// TestNext: after one host's content was found bad the others are asked, and the error has what was wrong at each.
func TestNext(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	origin.push(t, "app")
	mirror.push(t, "app")
	dir := t.TempDir()
	configure(t, dir, origin.host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", origin.host, mirror.host))
	repo, first, err := newClient(dir).Resolve(t.Context(), named(t, origin.host+"/app"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	second, err := repo.Next(t.Context(), fmt.Errorf("%w: rotten", ErrCorrupt))
	if err != nil || second.Digest == first.Digest {
		t.Errorf("got %v after %v, %v", second.Digest, first.Digest, err)
	}
	_, err = repo.Next(t.Context(), fmt.Errorf("%w: spoiled", ErrCorrupt))
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), mirror.host+": corrupt: rotten; "+origin.host+": corrupt: spoiled") {
		t.Errorf("got %v", err)
	}
}

// TestResumedFromElsewhere: a host that breaks off, and goes on with other bytes than it was asked for. What it says of them counts.
func TestResumedFromElsewhere(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 1000))
	for test, given := range map[string]struct {
		skip int // from where it sends, after the 4000 bytes of the first connection
		says string
		want error
	}{
		"as asked":            {4000, "bytes 4000-9999/10000", nil},
		"all of it":           {0, "bytes 0-9999/10000", nil},
		"a byte too far":      {4001, "bytes 4001-9999/10000", ErrUnavailable},
		"says nothing":        {4000, "", nil},
		"says what is no one": {4000, "bananas", nil},
	} {
		t.Run(test, func(t *testing.T) {
			s := newServer(t)
			s.push(t, "app")
			var broken sync.Once
			s.guard = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") {
					return true
				}
				from, status := given.skip, http.StatusPartialContent
				broken.Do(func() { from, status = 0, http.StatusOK })
				w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
				if status == http.StatusPartialContent && given.says != "" {
					w.Header().Set("Content-Range", given.says)
				}
				w.WriteHeader(status)
				if status == http.StatusOK {
					_, _ = w.Write(content[:4000])
					return false // which breaks the connection
				}
				_, _ = w.Write(content[from:])
				return false
			}
			repo, _, err := newClient("").Resolve(t.Context(), named(t, s.host+"/app"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer repo.Close()
			blob, err := repo.Fetch(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(content), Size: int64(len(content))})
			if err != nil {
				t.Fatal(err)
			}
			defer blob.Close()
			got, err := io.ReadAll(blob)
			if !errors.Is(err, given.want) || err == nil && string(got) != string(content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err != nil && !strings.Contains(err.Error(), given.says) {
				t.Errorf("%v doesn't tell of %q", err, given.says)
			}
		})
	}
}

// TestPausesOfABusyHostAreItsOwn: the pauses that a host asks for aren't held against it, however many.
func TestPausesOfABusyHostAreItsOwn(t *testing.T) {
	s := newServer(t)
	s.push(t, "app")
	s.guard = busyFor(3, http.StatusTooManyRequests, "1")
	c := newClient("")
	c.Stall = 2 * time.Second
	var mu sync.Mutex
	var rested time.Duration
	ctx := OnRest(t.Context(), func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		rested += d
	})
	repo, _, err := c.Resolve(ctx, named(t, s.host+"/app"), nil)
	if err != nil {
		t.Fatal(err)
	}
	repo.Close()
	if rested != 3*time.Second {
		t.Errorf("told of %v", rested)
	}
}

// TestFetchAsksNobodyElse: the addresses that a manifest names for a layer aren't asked.
func TestFetchAsksNobodyElse(t *testing.T) {
	s, other := newServer(t), newServer(t)
	s.push(t, "app")
	other.guard = func(_ http.ResponseWriter, r *http.Request) bool {
		t.Errorf("asked for %s", r.URL)
		return true
	}
	repo, desc, err := newClient("").Resolve(t.Context(), named(t, s.host+"/app"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	desc.URLs = []string{"http://" + other.host + "/metadata"}
	blob, err := repo.Fetch(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if content, err := io.ReadAll(blob); err != nil || digest.FromBytes(content) != desc.Digest {
		t.Errorf("%q, %v", content, err)
	}
}
