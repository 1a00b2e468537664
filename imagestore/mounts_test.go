package imagestore

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/overlay"
)

// probeLayer is a layer that is a file: that of the probe. It needs a kernel that mounts such.
func probeLayer(t testing.TB) string {
	t.Helper()
	needFiles(t)
	path := filepath.Join(t.TempDir(), "layer")
	if err := writeProbe(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantProbe(t testing.TB, mount *os.File) {
	t.Helper()
	if text, err := os.ReadFile(filepath.Join(overlay.Lower{Mount: mount}.Reach(), probeFile)); err != nil || string(text) != probeText {
		t.Errorf("read %q, %v", text, err)
	}
}

// TestRootMountsShared: however many want a layer at once, and again later, it is mounted once; and let go of when it is forgotten.
func TestRootMountsShared(t *testing.T) {
	path := probeLayer(t)
	before := openDescriptors(t)
	table := &mounts{}
	var group sync.WaitGroup
	var got sync.Map
	for range 30 {
		group.Go(func() {
			mount, release, err := table.take("a", path)
			if err != nil {
				t.Error(err)
				return
			}
			got.Store(mount, true)
			wantProbe(t, mount)
			release()
			release() // once is enough
		})
	}
	group.Wait()
	count := 0
	got.Range(func(any, any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d mounts", count)
	}
	if after := openDescriptors(t); after != before+1 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	table.forget("a")
	table.forget("a")
	table.forget("never")
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d when the layer is forgotten", before, after)
	}
}

// TestRootMountsForgotten: who has a mount keeps it when its layer goes, whether or not there is another of that name by then.
func TestRootMountsForgotten(t *testing.T) {
	path := probeLayer(t)
	before := openDescriptors(t)
	table := &mounts{}
	first, releaseFirst, err := table.take("a", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	table.forget("a")
	wantProbe(t, first)
	if err := writeProbe(path); err != nil {
		t.Fatal(err)
	}
	second, releaseSecond, err := table.take("a", path)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("the mount of what is gone was given")
	}
	releaseFirst()
	wantProbe(t, second)
	table.close()
	table.close()
	wantProbe(t, second)
	releaseSecond()
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if _, _, err := table.take("a", path); !errors.Is(err, errMountsClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestRootMountsAgain: a mount that failed is no reason for the next to fail.
func TestRootMountsAgain(t *testing.T) {
	path := probeLayer(t)
	table := &mounts{}
	defer table.close()
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if _, _, err := table.take("a", path+".none"); !errors.Is(err, unix.ENOENT) {
				t.Errorf("error %v", err)
			}
		})
	}
	group.Wait()
	mount, release, err := table.take("a", path)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	wantProbe(t, mount)
}

// TestRootMountsChurn: layers come and go under those who mount them, and nobody ever has a descriptor of something else.
func TestRootMountsChurn(t *testing.T) {
	path := probeLayer(t)
	before := openDescriptors(t)
	table := &mounts{}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 100 {
				if i < 2 {
					table.forget("a")
					continue
				}
				mount, release, err := table.take("a", path)
				if err != nil {
					t.Error(err)
					return
				}
				wantProbe(t, mount)
				release()
			}
		})
	}
	group.Wait()
	table.close()
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
