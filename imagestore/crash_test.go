package imagestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// crashEnv makes the test binary a process that pulls, prepares and removes until it is killed: see TestMain.
const crashEnv = "BERTH_TEST_CRASH"

func TestMain(m *testing.M) {
	if args := os.Getenv(crashEnv); args != "" {
		root, host, _ := strings.Cut(args, " ")
		if err := churn(root, host); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// churn goes through everything that changes the disk, without end.
func churn(root, host string) error {
	ctx := context.Background()
	cfg := DefaultConfig()
	cfg.KeepBlobs = true // more to go wrong
	s, err := Open(ctx, root, cfg, quietLog())
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		for n := range 3 {
			img, err := s.Pull(ctx, fmt.Sprintf("%s/app:%d", host, n), nil)
			if err != nil {
				return err
			}
			key := fmt.Sprintf("c%d-%d", os.Getpid(), i)
			if err := s.PrepareSnapshot(ctx, key, img.ID); err != nil {
				return err
			}
			if n == i%3 {
				if err := s.RemoveSnapshot(key); err != nil {
					return err
				}
			}
			if err := s.Remove(ctx, fmt.Sprintf("%s/app:%d", host, (n+1)%3)); err != nil {
				return err
			}
			if err := s.RemoveSnapshot(key); err != nil {
				return err
			}
		}
	}
}

// TestRootKilled: a kill -9 at any moment leaves a store that opens, whose images are whole, and that keeps nothing that isn't listed.
func TestRootKilled(t *testing.T) {
	needRoot(t)
	host := serve(t, nil)
	base := layerOf(t, f("base", strings.Repeat("b", 100_000)))
	for i := range 3 {
		push(t, fmt.Sprintf("%s/app:%d", host, i), imageOf(t, base, layerOf(t, f("d/own", fmt.Sprint(i)), f("big", strings.Repeat("x", 300_000)))))
	}
	root := t.TempDir()
	for range 15 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), crashEnv+"="+root+" "+host)
		var said strings.Builder
		child.Stderr = &said
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30*time.Millisecond + time.Duration(rand.IntN(150))*time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatalf("the child had ended by itself: %s", said.String())
		}
		child.Wait()
		if said.Len() > 0 {
			t.Fatal(said.String())
		}
		checkWhole(t, root)
	}
}

// checkWhole opens the store and looks at all that it says to have. It returns how many images that is.
func checkWhole(t *testing.T, root string) int {
	t.Helper()
	s, err := Open(t.Context(), root, testConfig(t), quietLog())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, img := range s.Images() {
		mount, err := s.MountImage(img.ID)
		if err != nil {
			t.Error(err)
			continue
		}
		if readMounted(t, mount, "base") != strings.Repeat("b", 100_000) || readMounted(t, mount, "big") != strings.Repeat("x", 300_000) {
			t.Error("an image is listed whose files aren't what they were")
		}
		mount.Close()
	}
	keys, err := s.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		mount, err := s.MountSnapshot(key, "")
		if err != nil {
			t.Error(err)
			continue
		}
		if readMounted(t, mount, "big") != strings.Repeat("x", 300_000) {
			t.Errorf("snapshot %s: a file isn't what it was", key)
		}
		mount.Close()
	}
	if bad, _ := verify(t, s, false); len(bad) > 0 {
		t.Errorf("layers aren't what was pulled: %+v", bad)
	}
	wantClean(t, s, len(s.layers))
	if got := entries(t, root+"/blobs"); len(got) != len(s.layers) {
		t.Errorf("%d blobs of %d layers", len(got), len(s.layers))
	}
	if got := entries(t, root+"/snapshots"); len(got) != len(keys) {
		t.Errorf("on disk %v, listed %v", got, keys)
	}
	return len(s.Images())
}

func TestRootReopen(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")), layerOf(t, f("b", "1")))
	if _, err := Open(t.Context(), s.root, s.cfg, quietLog()); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.PrepareSnapshot(t.Context(), "c1", img.ID); err != nil {
		t.Fatal(err)
	}
	s.Close()
	root, cfg := s.root, s.cfg
	cfg.Pinned = []string{"*/app:*"}
	// What crashes at bad moments leave, and what a power cut tears.
	for _, path := range []string{"layers/0123", "staging/layer-1/usr", "snapshots/torn", "snapshots/c1/fs/var"} {
		if err := os.MkdirAll(filepath.Join(root, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "snapshots/torn/snapshot.json"), []byte(`{"image":`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, root, cfg)
	again, err := s.Image(img.ID)
	if err != nil || again.Size != img.Size || again.Tags[0] != img.Tags[0] || !again.Pinned {
		t.Errorf("%+v, %v", again, err)
	}
	wantClean(t, s, 2)
	if got := entries(t, root+"/snapshots"); len(got) != 1 || got[0] != "c1" {
		t.Errorf("snapshots %v", got)
	}
}

// TestRootReopenDamaged: an image whose files are gone isn't listed, and can be pulled again.
func TestRootReopenDamaged(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	push(t, ref(host, "app"), imageOf(t, layerOf(t, f("a", "1")), layerOf(t, f("b", "1"))))
	img := mustPull(t, s, ref(host, "app"))
	s.Close()
	if err := os.RemoveAll(s.layerDir(img.layers[0])); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, s.root, s.cfg)
	if len(s.Images()) != 0 {
		t.Error("it is listed")
	}
	wantClean(t, s, 0)
	mustPull(t, s, ref(host, "app"))
	s.Close()

	bolt, err := bbolt.Open(filepath.Join(s.root, "images.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = bolt.Update(func(tx *bbolt.Tx) error { return tx.Bucket(imagesBucket).Put([]byte(img.ID), []byte("no JSON")) })
	if err := errors.Join(err, bolt.Close()); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, s.root, s.cfg)
	if len(s.Images()) != 0 {
		t.Error("a record that can't be read is listed")
	}
	mustPull(t, s, ref(host, "app"))
	wantClean(t, s, 2)
}

func TestRootClosed(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, stalling)
	push(t, ref(host, "app"), randomImage(t, 1, 200_000))
	result := make(chan error, 1)
	go func() { _, err := s.Pull(t.Context(), ref(host, "app"), nil); result <- err }()
	waitFor(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.unpacking) == 1 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Pull(t.Context(), ref(host, "app"), nil); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
	if got := entries(t, s.root+"/staging"); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}
