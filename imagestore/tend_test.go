package imagestore

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// refusing fails blobs while it is on, but the first so many.
type refusing struct {
	on    atomic.Bool
	good  atomic.Int32
	blobs atomic.Int32 // that were served
}

func (r *refusing) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			if r.on.Load() && r.good.Add(-1) < 0 {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			r.blobs.Add(1)
		}
		next.ServeHTTP(w, req)
	})
}

// TestRootPullKeepsLayers: a pull that fails at one layer leaves the others for the next try, which fetches what is missing only.
func TestRootPullKeepsLayers(t *testing.T) {
	needRoot(t)
	cfg := testConfig(t)
	cfg.MaxParallelLayers = 1 // one after the other, so that some are done when one fails
	s := openStore(t, t.TempDir(), cfg)
	var r refusing
	host := serve(t, r.wrap)
	push(t, ref(host, "app"), threeLayers(t))
	r.on.Store(true)
	r.good.Store(3) // the configuration and two layers
	if _, err := s.Pull(t.Context(), ref(host, "app"), nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if len(s.unpacking) != 2 || len(s.Images()) != 0 {
		t.Errorf("%d layers are kept, %d images listed", len(s.unpacking), len(s.Images()))
	}
	usage, err := s.Usage(t.Context())
	if err != nil || usage.Bytes < 800_000 {
		t.Errorf("what is kept isn't counted: %+v, %v", usage, err)
	}
	r.on.Store(false)
	before := r.blobs.Load()
	mustPull(t, s, ref(host, "app"))
	if n := r.blobs.Load() - before; n != 2 { // the configuration again
		t.Errorf("the second try fetched %d blobs", n)
	}
	wantClean(t, s, 3)
}

// TestRootPullKeepsLayersNotForever: nor when there is no room, nor over a restart.
func TestRootPullKeepsLayersNotForever(t *testing.T) {
	needRoot(t)
	cfg := testConfig(t)
	cfg.MaxParallelLayers = 1
	s := openStore(t, t.TempDir(), cfg)
	var r refusing
	host := serve(t, r.wrap)
	push(t, ref(host, "app"), threeLayers(t))
	r.on.Store(true)
	for range 2 {
		r.good.Store(3)
		if _, err := s.Pull(t.Context(), ref(host, "app"), nil); err == nil {
			t.Fatal("no error")
		}
		s.installer.dropStaged(time.Hour)
		if len(s.unpacking) != 2 {
			t.Errorf("%d layers are kept", len(s.unpacking))
		}
		s.installer.dropStaged(0)
		wantClean(t, s, 0)
	}
	r.good.Store(3)
	if _, err := s.Pull(t.Context(), ref(host, "app"), nil); err == nil {
		t.Fatal("no error")
	}
	root := s.root
	s.Close()
	wantClean(t, openStore(t, root, cfg), 0)
}

func TestRootSweep(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	mine, err := s.newStaging("unpacking", "layer") // of a pull that runs
	if err != nil {
		t.Fatal(err)
	}
	for _, orphan := range []string{"layers/0123", "snapshots/c2/fs", "staging/snapshot-1/fs", "unpacking/layer-1/files", "staging/" + binPrefix + "1/x"} {
		if err := os.MkdirAll(filepath.Join(s.root, orphan), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.janitor.sweepNow(); err != nil {
		t.Fatal(err)
	}
	s.bin.wait()
	if got := entries(t, s.root+"/unpacking"); len(got) != 1 || got[0] != filepath.Base(mine) {
		t.Errorf("unpacking %v", got)
	}
	s.discard(mine)
	wantClean(t, s, 1)
	if got := entries(t, s.root+"/snapshots"); len(got) != 1 || got[0] != "c1" {
		t.Errorf("snapshots %v", got)
	}
}

func TestRootSnapshotUsage(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	if _, err := s.SnapshotUsage("c1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(s.snapshotDir("c1"), "fs")
	if err := errors.Join(os.WriteFile(at+"/big", make([]byte, 1<<20), 0o600), os.Link(at+"/big", at+"/again"),
		os.Symlink("/", at+"/out"), os.MkdirAll(at+strings.Repeat("/d", maxWalkDepth+10), 0o700)); err != nil {
		t.Fatal(err)
	}
	var u SnapshotUsage
	waitFor(t, func() bool {
		var err error
		u, err = s.SnapshotUsage("c1")
		return err == nil && u.Bytes > 1<<20
	})
	// c1, fs, work, snapshot.json; big once, out; the directories as deep as it goes
	if inodes := uint64(4 + 2 + maxWalkDepth); u.Bytes > 1<<20+(inodes+8)*4096 || u.Inodes != inodes || time.Since(u.At) > time.Minute {
		t.Errorf("%+v, want %d inodes", u, inodes)
	}
}
