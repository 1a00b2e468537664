package imagestore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/disk"
)

// TestRootFullDiskFiles is TestRootFullDisk of layers that are files, which are written past the page cache.
func TestRootFullDiskFiles(t *testing.T) {
	if !disk.Alone(t) {
		return
	}
	needFiles(t)
	host := serve(t, nil)
	push(t, ref(host, "app"), threeLayers(t))
	image, at := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	if err := disk.Format(image, 16<<20); err != nil {
		t.Fatal(err)
	}
	mountAt(t, image, at)
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	cfg := testConfig(t)
	cfg.LayerFormat = LayerFormatErofs
	s := openStore(t, filepath.Join(at, "images"), cfg)
	before := openDescriptors(t)
	full, fit := 0, 0
	for free := int64(0); free < 2<<20; free += 36 << 10 {
		empty := fillBut(t, at, free)
		_, err := s.Pull(t.Context(), ref(host, "app"), nil)
		if err == nil {
			fit++
		} else if full++; !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), ref(host, "app")) {
			t.Errorf("%d bytes: %v", free, err)
		}
		if err != nil {
			wantClean(t, s, 0)
		}
		empty()
		mustPull(t, s, ref(host, "app"))
		err = s.Verify(t.Context(), nil, false, func(check LayerCheck) {
			if check.Problem != "" {
				t.Errorf("%d bytes: %+v", free, check)
			}
		})
		if err != nil {
			t.Errorf("%d bytes: verify: %v", free, err)
		}
		if err := s.Remove(t.Context(), ref(host, "app")); err != nil {
			t.Errorf("%d bytes: remove: %v", free, err)
		}
		wantClean(t, s, 0)
	}
	if full < 10 || fit == 0 {
		t.Errorf("full %d times, enough %d times: the sizes test nothing", full, fit)
	}
	if after := openDescriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// fillBut takes all space that a file system has, but so many bytes, until empty is called.
func fillBut(t *testing.T, at string, free int64) (empty func()) {
	t.Helper()
	filler, err := os.Create(filepath.Join(at, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	sync := func() { // space that is given back comes with the journal's next commit
		if err := syncAll(at); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	size := int64(0)
	for step := int64(4 << 20); step >= 4<<10; {
		if err := unix.Fallocate(int(filler.Fd()), 0, size, step); err == unix.ENOSPC {
			step /= 2
		} else if err != nil {
			t.Fatal(err)
		} else {
			size += step
		}
	}
	if err := filler.Truncate(size - free); err != nil {
		t.Fatal(err)
	}
	sync()
	return func() {
		t.Helper()
		if err := os.Remove(filler.Name()); err != nil {
			t.Fatal(err)
		}
	}
}
