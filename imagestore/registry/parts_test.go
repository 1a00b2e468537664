package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// largeBlob is five parts and a bit.
var largeBlob = func() []byte {
	content := make([]byte, 5*partSize+12345)
	rand.NewChaCha8([32]byte{1}).Read(content)
	return content
}()

// partServer answers with largeBlob, as serve wants it, and counts.
type partServer struct {
	serve func(w http.ResponseWriter, r *http.Request)

	mu             sync.Mutex
	ranges         []string // of all requests for the blob
	flying, busier int      // requests now, and the most there were
}

func (s *partServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	s.flying++
	s.busier = max(s.busier, s.flying)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.flying--
		s.mu.Unlock()
	}()
	s.serve(w, r)
}

// serveRange is what a server does that can.
func serveRange(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(largeBlob))
}

// openParts asks for the blob through a repository with these hosts.
func openParts(t *testing.T, ctx context.Context, c *Client, hosts ...string) (io.ReadCloser, error) {
	repo, err := partsRepository(t, ctx, c, hosts...)
	if err != nil {
		return nil, err
	}
	return repo.Fetch(ctx, largeDescriptor())
}

func largeDescriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(largeBlob), Size: int64(len(largeBlob))}
}

// partsRepository is one that was found at the first of these hosts.
func partsRepository(t *testing.T, ctx context.Context, c *Client, hosts ...string) (*Repository, error) {
	repo := &Repository{client: c, name: named(t, hosts[0]+"/app:1")}
	for _, h := range hosts {
		found, err := c.hosts(ctx, named(t, h+"/app:1"), nil)
		if err != nil {
			return nil, err
		}
		repo.hosts = append(repo.hosts, found...)
	}
	t.Cleanup(repo.Close)
	return repo, nil
}

// fetchParts reads the blob, and compares.
func fetchParts(t *testing.T, ctx context.Context, c *Client, hosts ...string) error {
	t.Helper()
	blob, err := openParts(t, ctx, c, hosts...)
	if err != nil {
		return err
	}
	defer func() {
		blob.Close()
		if n := len(c.spare); n > 0 {
			t.Errorf("%d spare parts were not given back", n)
		}
	}()
	if _, is := blob.(*parts); !is {
		t.Errorf("read by %T", blob)
	}
	got, err := io.ReadAll(blob)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, largeBlob) {
		return fmt.Errorf("%w: other bytes, %d of %d", ErrCorrupt, len(got), len(largeBlob))
	}
	return nil
}

func partsClient() *Client {
	c := New(Options{UserAgent: "berth", Ranges: 4, RangesFrom: 1, Stall: 10 * time.Second})
	c.busyPause = time.Millisecond
	return c
}

func startParts(t *testing.T, serve func(w http.ResponseWriter, r *http.Request)) (*partServer, string) {
	t.Helper()
	s := &partServer{serve: serve}
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	return s, strings.TrimPrefix(listener.URL, "http://")
}

func TestPartsAreFetchedAtOnce(t *testing.T) {
	var together sync.WaitGroup
	together.Add(4)
	var first atomic.Bool
	s, host := startParts(t, func(w http.ResponseWriter, r *http.Request) {
		if first.Swap(true) && r.Header.Get("Range") != fmt.Sprintf("bytes=%d-%d", 5*partSize, len(largeBlob)-1) {
			together.Done() // parts 1 to 4 are answered when all of them were asked for
			together.Wait()
		}
		serveRange(w, r)
	})
	if err := fetchParts(t, t.Context(), partsClient(), host); err != nil {
		t.Fatal(err)
	}
	if len(s.ranges) != 6 || s.busier < 4 || s.busier > 5 { // the first may be at its end
		t.Errorf("%d at once: %q", s.busier, s.ranges)
	}
	for i, r := range s.ranges[:1] {
		if want := fmt.Sprintf("bytes=%d-%d", i*partSize, (i+1)*partSize-1); r != want {
			t.Errorf("asked for %s, want %s", r, want)
		}
	}
}

// aboutParts is a server that lies when it is asked for a part, and serves all else well.
func aboutParts(lie http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if isBounded(r) {
			lie(w, r)
		} else {
			serveRange(w, r)
		}
	}
}

// TestPartsOfServersThatLie: a server that doesn't do as it was asked costs time, never content.
func TestPartsOfServersThatLie(t *testing.T) {
	other := make([]byte, len(largeBlob))
	var calls atomic.Int32
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		most  int // requests
	}{
		"ignores ranges": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(largeBlob)))
			w.Write(largeBlob)
		}, 2},
		"another range": {aboutParts(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", len(largeBlob)-1, len(largeBlob)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(largeBlob[5:])
		}), 2},
		"more than was asked for": {func(w http.ResponseWriter, r *http.Request) {
			var begin int
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &begin)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", begin, len(largeBlob)-1, len(largeBlob)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(largeBlob[begin:])
		}, 3},
		"another size": {aboutParts(func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(other[:len(other)-1]))
		}), 2},
		"no range in its answer": {aboutParts(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			w.Write(other)
		}), 2},
		"compressed ranges": {func(w http.ResponseWriter, r *http.Request) {
			if isBounded(r) {
				w.Header().Set("Content-Encoding", "gzip")
			}
			serveRange(w, r)
		}, 2},
		"can't satisfy it": {aboutParts(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}), 2},
		"another version after some parts": {func(w http.ResponseWriter, r *http.Request) {
			if isBounded(r) {
				w.Header().Set("ETag", `"1"`)
				if strings.HasPrefix(r.Header.Get("Range"), fmt.Sprintf("bytes=%d-", 2*partSize)) {
					w.Header().Set("ETag", `"2"`)
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(other))
					return
				}
			}
			serveRange(w, r)
		}, 8},
		"shorter ranges": {func(w http.ResponseWriter, r *http.Request) {
			var begin, end int
			if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &begin, &end); n == 2 {
				r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", begin, min(end, begin+partSize/3)))
			}
			serveRange(w, r)
		}, 30},
		"broken connections": {func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1)%2 == 0 {
				w = &breaking{w, partSize / 2}
			}
			serveRange(w, r)
		}, 30},
	} {
		t.Run(name, func(t *testing.T) {
			s, host := startParts(t, c.serve)
			if err := fetchParts(t, t.Context(), partsClient(), host); err != nil {
				t.Fatal(err)
			}
			if len(s.ranges) > c.most {
				t.Errorf("%d requests: %q", len(s.ranges), s.ranges)
			}
		})
	}
}

// isBounded tells a request for a part from one for the rest.
func isBounded(r *http.Request) bool {
	text := r.Header.Get("Range")
	return text != "" && !strings.HasSuffix(text, "-")
}

// breaking loses its connection after so many bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p[:min(len(p), b.left)])
	b.left -= n
	if b.left == 0 {
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// TestPartsWithTokenAndRedirect: the requests for a token have no range, those that storage gets have.
func TestPartsWithTokenAndRedirect(t *testing.T) {
	storage, storageHost := startParts(t, serveRange)
	var tokens atomic.Int32
	var host string
	_, host = startParts(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			if r.Header.Get("Range") != "" {
				t.Errorf("a token's range: %s", r.Header.Get("Range"))
			}
			tokens.Add(1)
			io.WriteString(w, `{"token":"t","expires_in":300}`)
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="s"`, host))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			http.Redirect(w, r, "http://"+storageHost+"/bucket/"+path.Base(r.URL.Path)+"?signature=x", http.StatusTemporaryRedirect)
		}
	})
	if err := fetchParts(t, t.Context(), partsClient(), host); err != nil {
		t.Fatal(err)
	}
	if len(storage.ranges) != 6 || tokens.Load() == 0 {
		t.Errorf("storage was asked %q, %d tokens", storage.ranges, tokens.Load())
	}
}

// TestPartsFromTheNextHost: a host that fails in the middle is left for the next, and isn't asked again.
func TestPartsFromTheNextHost(t *testing.T) {
	var calls atomic.Int32
	_, first := startParts(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 2 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		serveRange(w, r)
	})
	second, secondHost := startParts(t, serveRange)
	if err := fetchParts(t, t.Context(), partsClient(), first, secondHost); err != nil {
		t.Fatal(err)
	}
	if len(second.ranges) < 3 || calls.Load() > 6 {
		t.Errorf("the second was asked %q, the first %d times", second.ranges, calls.Load())
	}
}

// TestPartsOfTheNextHost: that a host gave no part of a blob says nothing of the one that comes after it.
func TestPartsOfTheNextHost(t *testing.T) {
	_, first := startParts(t, func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		serveRange(w, r)
	})
	second, secondHost := startParts(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Docker-Content-Digest", digest.FromString("a manifest").String())
			return
		}
		serveRange(w, r)
	})
	repo, err := partsRepository(t, t.Context(), partsClient(), first, secondHost)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func() {
		t.Helper()
		blob, err := repo.Fetch(t.Context(), largeDescriptor())
		if err != nil {
			t.Fatal(err)
		}
		defer blob.Close()
		if got, err := io.ReadAll(blob); err != nil || !bytes.Equal(got, largeBlob) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	fetch()
	if _, err := repo.Next(t.Context(), ErrCorrupt); err != nil {
		t.Fatal(err)
	}
	second.ranges = nil
	fetch()
	if len(second.ranges) != 6 {
		t.Errorf("the next host was asked %q", second.ranges)
	}
}

func TestPartsFailWithEachHostsReason(t *testing.T) {
	_, host := startParts(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Range"), "bytes=0-") {
			serveRange(w, r)
			return
		}
		w.WriteHeader(http.StatusForbidden)
	})
	if err := fetchParts(t, t.Context(), partsClient(), host); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), host) {
		t.Errorf("got %v", err)
	}
}

// TestPartsEndWithTheirContext also when nothing comes any more.
func TestPartsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	_, host := startParts(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Range"), fmt.Sprintf("bytes=%d-", partSize)) {
			cancel(why)
			<-r.Context().Done()
			return
		}
		serveRange(w, r)
	})
	began := time.Now()
	if err := fetchParts(t, ctx, partsClient(), host); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestPartsShareRoom: many blobs at once hold no more parts than there is room for, and none waits for ever.
func TestPartsShareRoom(t *testing.T) {
	_, host := startParts(t, serveRange)
	c := partsClient()
	c.Ranges = 100
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			blob, err := openParts(t, t.Context(), c, host)
			if err != nil {
				t.Error(err)
				return
			}
			defer blob.Close()
			if got, err := io.ReadAll(blob); err != nil || !bytes.Equal(got, largeBlob) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
	if n := len(c.spare); n > 0 {
		t.Errorf("%d spare parts were not given back", n)
	}
}

// TestPartsHoldNoMemoryBeyondTheirRoom: what a part had in memory goes with its place, which is another blob's then.
func TestPartsHoldNoMemoryBeyondTheirRoom(t *testing.T) {
	_, host := startParts(t, serveRange)
	c := partsClient()
	blob, err := openParts(t, t.Context(), c, host)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	p, most := blob.(*parts), 0
	for buf := make([]byte, 64<<10); ; {
		if _, err = p.Read(buf); err != nil {
			break
		}
		held := len(p.flying)
		if p.buffer != nil {
			held++
		}
		most = max(most, held)
		if held > 1+len(c.spare) {
			t.Fatalf("%d parts' memory, with %d spare ones", held, len(c.spare))
		}
	}
	if err != io.EOF || most != c.Ranges {
		t.Errorf("%v; %d parts at once", err, most)
	}
}
