package imagestore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestRootPullAndMount(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	base := layerOf(t, dir("etc/"), f("etc/hostname", "base"), f("bin/tool", "old"), f("gone", "x"))
	top := layerOf(t, f("bin/tool", "new"), f(".wh.gone", ""))
	push(t, ref(host, "app:1"), imageOf(t, base, top))

	img := mustPull(t, s, ref(host, "app:1"))
	if want := configName(t, imageOf(t, base, top)); img.ID != want {
		t.Errorf("id %s, want %s", img.ID, want)
	}
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	mount, err := s.MountSnapshot("c1", "")
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	if got := readMounted(t, mount, "etc/hostname") + readMounted(t, mount, "bin/tool"); got != "basenew" {
		t.Errorf("read %q", got)
	}
	if _, err := statMounted(t, mount, "gone"); err == nil {
		t.Error("a whiteout didn't hide its file")
	}
	wantClean(t, s, 2)
}

func TestRootPullReferences(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	img := imageOf(t, layerOf(t, f("a", "1")))
	push(t, ref(host, "app"), img) // :latest
	push(t, ref(host, "app:2"), img)
	push(t, ref(host, "other/name:3"), img)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var last *Image
	for _, name := range []string{"app", "app:2", "other/name:3", "app@" + digest.String(), "app:nonsense@" + digest.String()} {
		last = mustPull(t, s, ref(host, name))
		if last.ID != configName(t, img) {
			t.Errorf("%s: id %s", name, last.ID)
		}
	}
	tags := []string{host + "/app:2", host + "/app:latest", host + "/other/name:3"}
	digests := []string{host + "/app@" + digest.String(), host + "/other/name@" + digest.String()}
	if !slices.Equal(last.Tags, tags) || !slices.Equal(last.Digests, digests) {
		t.Errorf("tags %v, digests %v", last.Tags, last.Digests)
	}
	if last.Size == 0 || last.Config.Architecture != runtime.GOARCH {
		t.Errorf("size %d, config %+v", last.Size, last.Config)
	}
	hex := strings.TrimPrefix(last.ID, "sha256:")
	for _, name := range []string{last.ID, hex, hex[:12], "sha256:" + hex[:7], host + "/app", host + "/app:2", digests[0], host + "/app:2@" + digest.String()} {
		if found, err := s.Image(name); err != nil || found != last {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{host + "/app:4", "app", strings.Repeat("0", 64), "sha256:" + strings.Repeat("0", 64), "fff000fff000"} {
		if _, err := s.Image(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Image("not//a reference"); !errors.Is(err, ErrInvalidReference) {
		t.Errorf("got %v", err)
	}
	if len(s.Images()) != 1 {
		t.Errorf("%d images", len(s.Images()))
	}
	wantClean(t, s, 1)
}

func TestRootPullMovesTag(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1"))))
	old := mustPull(t, s, ref(host, "app"))
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "2"))))
	now := mustPull(t, s, ref(host, "app"))
	if old.ID == now.ID {
		t.Fatal("the same image")
	}
	left, err := s.Image(old.ID)
	if err != nil || len(left.Tags) != 0 || len(left.Digests) != 1 {
		t.Errorf("the old one: %+v, %v", left, err)
	}
	if found, err := s.Image(ref(host, "app")); err != nil || found.ID != now.ID {
		t.Errorf("the tag names %v, %v", found, err)
	}
}

func TestRootPullIndex(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	right := imageOf(t, layerOf(t, f("right", "1")))
	wrong := configured(t, imageOf(t, layerOf(t, f("WRONG-PLATFORM", "1"))), func(c *v1.ConfigFile) { c.Architecture = "s390x" })
	attestation := imageOf(t, layerOf(t, f("attestation", "1")))
	add := func(img v1.Image, os, arch string, notes map[string]string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}, Annotations: notes}}
	}
	index := mutate.AppendManifests(empty.Index, add(wrong, "linux", "s390x", nil),
		add(attestation, "unknown", "unknown", map[string]string{"vnd.docker.reference.type": "attestation-manifest"}),
		add(right, "linux", runtime.GOARCH, nil))
	for name, mediaType := range map[string]types.MediaType{"oci": types.OCIImageIndex, "docker": types.DockerManifestList} {
		pushIndex(t, ref(host, name), mutate.IndexMediaType(index, mediaType))
		img := mustPull(t, s, ref(host, name))
		if img.ID != configName(t, right) {
			t.Errorf("%s: chose %s", name, img.ID)
		}
		if len(img.Digests) == 0 {
			t.Errorf("%s: no digest", name)
		}
	}
	pushIndex(t, ref(host, "foreign"), mutate.AppendManifests(empty.Index, add(wrong, "linux", "s390x", nil)))
	if _, err := s.Pull(t.Context(), ref(host, "foreign"), nil); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("got %v", err)
	}
	push(t, ref(host, "foreign-image"), wrong)
	if _, err := s.Pull(t.Context(), ref(host, "foreign-image"), nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

func TestRootPullSharesLayers(t *testing.T) {
	s := newTestStore(t)
	var blobs atomic.Int32
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				blobs.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	})
	base, one, two := layerOf(t, f("base", "b")), layerOf(t, f("one", "1")), layerOf(t, f("two", "2"))
	push(t, ref(host, "one"), imageOf(t, base, one))
	push(t, ref(host, "two"), imageOf(t, base, two))
	push(t, ref(host, "swapped"), imageOf(t, one, base)) // the same layers over others are other layers
	blobs.Store(0)
	mustPull(t, s, ref(host, "one"))
	mustPull(t, s, ref(host, "two"))
	if got := blobs.Load(); got != 5 { // two configurations, three layers
		t.Errorf("%d blobs fetched", got)
	}
	mustPull(t, s, ref(host, "swapped"))
	wantClean(t, s, 5)
	blobs.Store(0)
	mustPull(t, s, ref(host, "one"))
	if got := blobs.Load(); got != 1 {
		t.Errorf("%d blobs fetched of an image that is here", got)
	}
	if err := s.Remove(t.Context(), ref(host, "one")); err != nil {
		t.Fatal(err)
	}
	wantClean(t, s, 4)
}

// TestRootPullTogether: callers of one image share the work; one that gives up doesn't stop the others; the last one does.
func TestRootPullTogether(t *testing.T) {
	s := newTestStore(t)
	var manifests atomic.Int32
	open := make(chan struct{})
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				select {
				case <-open:
				case <-r.Context().Done():
					return
				}
			}
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
				manifests.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	})
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1"))))
	manifests.Store(0)

	impatient, giveUp := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var failed atomic.Int32
	for i := range 5 {
		ctx := t.Context()
		if i == 0 {
			ctx = impatient
		}
		group.Go(func() {
			if _, err := s.Pull(ctx, ref(host, "app"), nil); err != nil {
				failed.Add(1)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	waitFor(t, func() bool { return s.waiting() == 5 })
	giveUp()
	waitFor(t, func() bool { return failed.Load() == 1 })
	close(open)
	group.Wait()
	if failed.Load() != 1 || manifests.Load() != 1 {
		t.Errorf("%d failed, %d requests for the manifest", failed.Load(), manifests.Load())
	}
	wantClean(t, s, 1)
}

func (s *Store) waiting() int {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	sum := 0
	for _, fl := range s.flights.byKey {
		sum += fl.waiting
	}
	return sum
}

func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it didn't happen in 10 seconds")
		}
	}
}

func writeHosts(t testing.TB, s *Store, host, content string) {
	t.Helper()
	at := filepath.Join(s.cfg.RegistryConfigDir, strings.Replace(host, ":", "_", 1)+"_")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "hosts.toml"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRootPullMirror: blobs that the mirror lacks come from the registry itself.
func TestRootPullMirror(t *testing.T) {
	s := newTestStore(t)
	origin := serve(t, nil)
	var refused atomic.Int32
	mirror := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				refused.Add(1)
				http.NotFound(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	img := imageOf(t, layerOf(t, f("a", "1")))
	push(t, ref(origin, "app"), img)
	push(t, ref(mirror, "app"), img)
	writeHosts(t, s, origin, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", origin, mirror))
	got := mustPull(t, s, ref(origin, "app"))
	if !slices.Equal(got.Tags, []string{origin + "/app:latest"}) {
		t.Errorf("tags %v", got.Tags)
	}
	if refused.Load() == 0 {
		t.Error("the mirror wasn't asked")
	}
}

func TestRootPullAndRemoveAtOnce(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	base := layerOf(t, f("base", "b"))
	for i := range 4 {
		push(t, fmt.Sprintf("%s/app:%d", host, i), imageOf(t, base, layerOf(t, f("own", fmt.Sprint(i)))))
	}
	var group sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("%s/app:%d", host, i%4)
		group.Go(func() {
			for range 10 {
				img, err := s.Pull(t.Context(), name, &Auth{Username: fmt.Sprint(i)})
				if err != nil {
					t.Errorf("pull: %v", err)
					return
				}
				key := fmt.Sprintf("c%d", i)
				switch err := s.PrepareSnapshot(t.Context(), key, img.ID); {
				case errors.Is(err, ErrNotFound): // removed by the other one
				case err != nil:
					t.Errorf("prepare: %v", err)
				default:
					mountAndRemove(t, s, key)
				}
				if err := s.Remove(t.Context(), name); err != nil {
					t.Errorf("remove: %v", err)
				}
			}
		})
	}
	group.Wait()
	if len(s.Images()) != 0 {
		t.Errorf("%d images", len(s.Images()))
	}
	wantClean(t, s, 0)
}

func mountAndRemove(t testing.TB, s *Store, key string) {
	mount, err := s.MountSnapshot(key, "")
	if err != nil {
		t.Errorf("mount: %v", err)
		return
	}
	defer mount.Close()
	if st, err := statMounted(t, mount, "own"); err != nil || st.Size != 1 {
		t.Errorf("own: %v", err)
	}
	if err := s.RemoveSnapshot(key); err != nil {
		t.Errorf("remove snapshot: %v", err)
	}
}
