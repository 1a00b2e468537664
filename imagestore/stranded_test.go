package imagestore

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/userns"
)

// unmountableDir is a directory on a file system of which no file can be mounted, as all of an older kernel's.
func unmountableDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "berth-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestRootStranded: images that were pulled as files, where the kernel mounts those, are directories where it doesn't: all that they were, without
// a registry.
func TestRootStranded(t *testing.T) {
	needFiles(t)
	for _, format := range []string{LayerFormatAuto, LayerFormatDirectory} {
		t.Run(format, func(t *testing.T) {
			s, img := pulled(t, mixedLayers(t)...)
			root, cfg := s.root, s.cfg
			s.Close()
			at := filepath.Join(unmountableDir(t), "images")
			if out, err := exec.Command("cp", "-a", root, at).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v\n%s", err, out)
			}
			cfg.LayerFormat = format
			s = openStore(t, at, cfg)
			deadline := time.Now().Add(time.Minute)
			for len(s.checker.ofFiles()) > 0 {
				if time.Now().After(deadline) {
					t.Fatal("layers are files after a minute")
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := errors.Join(s.PrepareSnapshot(t.Context(), "one", img.ID), s.PrepareView(t.Context(), "view", img.ID)); err != nil {
				t.Fatal(err)
			}
			for key, first := range map[string]uint32{"one": 0, "view": 0} {
				mount, err := s.MountSnapshot(key, "")
				if err != nil {
					t.Fatal(err)
				}
				wantMixed(t, mount, first)
				mount.Close()
			}
			mount, err := s.MountMapped("view", userns.New(t, 300000), "")
			if err != nil {
				t.Fatal(err)
			}
			wantMixed(t, mount, 300000)
			mount.Close()
			if bad, all := verify(t, s, false); len(bad) != 0 || all != len(img.layers) {
				t.Errorf("%d layers, damaged: %+v", all, bad)
			}
			s.dropSpare()
			wantClean(t, s, len(img.layers))
		})
	}
}

// TestRootStrandedStay: where directories are configured, layers that are files stay so as long as they can be mounted.
func TestRootStrandedStay(t *testing.T) {
	needFiles(t)
	s, img := pulled(t, layerOf(t, f("a", "1")))
	root, cfg := s.root, s.cfg
	s.Close()
	cfg.LayerFormat = LayerFormatDirectory
	s = openStore(t, root, cfg)
	tried := false
	s.checker.freeStranded(t.Context(), func() error { tried = true; return nil })
	if len(s.checker.ofFiles()) != 1 || !tried {
		t.Errorf("images of files: %d, tried %v", len(s.checker.ofFiles()), tried)
	}
	// What passes isn't the kernel's fault.
	s.checker.freeStranded(t.Context(), func() error { return fmt.Errorf("probe: %w", unix.ENOSPC) })
	if len(s.checker.ofFiles()) != 1 {
		t.Error("a full disk made a directory of a layer")
	}
	mount, err := s.MountImage(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	mount.Close()
}

// TestRootRepairOfItself: a layer whose index is damaged is made anew of its own tar; the registry is asked where that is damaged too.
func TestRootRepairOfItself(t *testing.T) {
	needFiles(t)
	s := newTestStore(t)
	var asked atomic.Int64
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); next.ServeHTTP(w, r) })
	})
	push(t, ref(host, "app"), imageOf(t, layerOf(t, dir("./"), f("a", "1"), f("b", "2"))))
	img := mustPull(t, s, ref(host, "app"))
	for _, test := range []struct {
		name string
		at   func(size int64) int64
		asks bool
	}{
		{"index", func(size int64) int64 { return size - 4096 }, false},
		{"header", func(int64) int64 { return 1024 }, false},
		{"tar", func(int64) int64 { return 4096 }, true},
	} {
		file, err := os.OpenFile(s.layerDir(img.layers[0]), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := file.Stat()
		if err == nil {
			_, err = file.WriteAt([]byte("damage"), test.at(info.Size()))
		}
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		asked.Store(0)
		if bad, _ := verify(t, s, true); len(bad) != 1 || !bad[0].Damaged || !bad[0].Repaired {
			t.Errorf("%s: %+v", test.name, bad)
		}
		if (asked.Load() > 0) != test.asks {
			t.Errorf("%s: the registry was asked %d times", test.name, asked.Load())
		}
		if bad, _ := verify(t, s, false); len(bad) != 0 {
			t.Errorf("%s, repaired: %+v", test.name, bad)
		}
		mount, err := s.MountImage(img.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := readMounted(t, mount, "a") + readMounted(t, mount, "b"); got != "12" {
			t.Errorf("%s: read %q", test.name, got)
		}
		mount.Close()
	}
}
