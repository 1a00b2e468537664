package imagestore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/overlay"
)

func TestChooseFormat(t *testing.T) {
	old := errors.New("the kernel is too old")
	for _, test := range []struct {
		configured  string
		fails       error
		want, says  string
		fatal, asks bool
	}{
		{LayerFormatAuto, nil, formatErofs, "erofs", false, true},
		{LayerFormatAuto, old, formatDirectory, "directory: the kernel is too old", false, true},
		{LayerFormatErofs, nil, formatErofs, "erofs", false, true},
		{LayerFormatErofs, old, "", "", true, true},
		{LayerFormatDirectory, old, formatDirectory, "directory", false, false},
	} {
		asked := false
		format, unfit, err := chooseFormat(test.configured, func() error { asked = true; return test.fails })
		if test.fatal {
			if !errors.Is(err, old) || !strings.Contains(err.Error(), test.configured) {
				t.Errorf("%+v: error %v", test, err)
			}
			continue
		}
		cat := &catalog{format: format, unfit: unfit}
		if err != nil || format != test.want || cat.LayerFormat() != test.says || asked != test.asks {
			t.Errorf("%+v: %q, says %q, asked %v, %v", test, format, cat.LayerFormat(), asked, err)
		}
	}
	cfg := DefaultConfig()
	cfg.LayerFormat = "tar"
	if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "layer_format ") {
		t.Errorf("error %v", err)
	}
}

func newMounter(t testing.TB) *overlay.Mounter {
	t.Helper()
	needRoot(t)
	mounter, err := overlay.NewMounter()
	if err != nil {
		t.Fatal(err)
	}
	return mounter
}

// needFiles skips where the kernel has no layers that are files; where it has, the probe must say so.
func needFiles(t testing.TB) {
	t.Helper()
	t.Setenv("BERTH_TEST_LAYERS", LayerFormatAuto) // whatever others are run with
	err := probeErofs(t.TempDir(), newMounter(t))
	var name unix.Utsname
	if uname := unix.Uname(&name); uname != nil {
		t.Fatal(uname)
	}
	release := unix.ByteSliceToString(name.Release[:])
	switch {
	case err == nil:
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOTBLK), !strings.HasPrefix(release, "6.18."):
		t.Skipf("this kernel, %s, has no layers that are files: %v", release, err)
	default:
		t.Fatal(err)
	}
}

// wantEmpty wants nothing in a directory.
func wantEmpty(t testing.TB, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
}

// TestRootProbe: it says no where file systems can't be stacked so high, or the one below can't hold such a file, and leaves nothing
// in any case.
func TestRootProbe(t *testing.T) {
	needFiles(t)
	mounter := newMounter(t)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	root, err := mounter.Mount(overlay.Options{Lowers: overlay.Directories(dirs[0]), Upper: dirs[1], Work: dirs[2]})
	if err != nil {
		t.Fatal(err)
	}
	onOverlay := attach(t, root)
	root.Close()
	onTmpfs, err := os.MkdirTemp("/dev/shm", "berth-probe-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(onTmpfs) })
	for name, test := range map[string]struct {
		dir  string
		says string // "": it works
	}{
		"on a disk":     {t.TempDir(), ""},
		"on an overlay": {onOverlay, "no overlay"},
		"on a tmpfs":    {onTmpfs, "no tmpfs"},
		"nowhere":       {filepath.Join(onTmpfs, "none"), "none"},
	} {
		before := openDescriptors(t)
		err := probeErofs(test.dir, mounter)
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "nowhere" {
			wantEmpty(t, test.dir)
		}
		if after := openDescriptors(t); after != before {
			t.Errorf("%s: %d descriptors before, %d after", name, before, after)
		}
	}
}

// openDescriptors counts this process's, but for the sockets: of those the test's registry has some.
func openDescriptors(t testing.TB) (count int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		if at, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && !strings.HasPrefix(at, "socket:") {
			count++
		}
	}
	return count
}

// TestRootLayerFormat: a store that must have files, and can't, isn't opened, and lets go of its directory.
func TestRootLayerFormat(t *testing.T) {
	needFiles(t)
	cfg := testConfig(t)
	cfg.LayerFormat = LayerFormatAuto
	if got := openStore(t, t.TempDir(), cfg).LayerFormat(); got != LayerFormatErofs {
		t.Errorf("on a disk: %s", got)
	}
	root, err := os.MkdirTemp("/dev/shm", "berth-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	cfg.LayerFormat = LayerFormatErofs
	if s, err := Open(t.Context(), root, cfg, quietLog()); err == nil {
		s.Close()
		t.Error("opened on a tmpfs")
	} else if !errors.Is(err, unix.ENOTBLK) || !strings.Contains(err.Error(), "layer_format") {
		t.Errorf("error %v", err)
	}
	cfg.LayerFormat = LayerFormatAuto
	if got := openStore(t, root, cfg).LayerFormat(); !strings.HasPrefix(got, "directory: mount erofs") {
		t.Errorf("on a tmpfs: %s", got)
	}
}

func BenchmarkProbe(b *testing.B) {
	mounter, dir := newMounter(b), b.TempDir()
	for b.Loop() {
		if err := probeErofs(dir, mounter); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRootLayerOfAnotherFormat: a layer that isn't what its record says, as after a cut while one takes another's place, is pulled again.
func TestRootLayerOfAnotherFormat(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"gone":      os.RemoveAll,
		"directory": func(path string) error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) },
		"file":      func(path string) error { return errors.Join(os.RemoveAll(path), os.WriteFile(path, nil, 0o600)) },
	} {
		s, img := pulled(t, layerOf(t, f("a", "1")))
		if (name == "directory") == (s.format == formatDirectory) && name != "gone" {
			continue // it is what the record says
		}
		root, cfg := s.root, s.cfg
		if err := errors.Join(s.Close(), replace(s.layerDir(img.layers[0]))); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, root, cfg)
		if len(s.Images()) != 0 {
			t.Errorf("%s: an image is listed", name)
		}
		mustPull(t, s, img.Tags[0])
	}
}
