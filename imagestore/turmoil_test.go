package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// TestRootTurmoil: whatever is done at once with images that share layers (pulled, removed, exported, damaged and repaired, and containers made of them),
// each of it works or says why not, and in the end nothing is left. BERTH_TEST_TURMOIL is how many seconds of it, 2 unless told.
func TestRootTurmoil(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	base := []v1.Layer{layerOf(t, f("base", "b")), layerOf(t, f("etc/deep/file", "d"))}
	names := make([]string, 4)
	for i := range names {
		names[i] = fmt.Sprintf("%s/app:%d", host, i)
		push(t, names[i], imageOf(t, append(base[:1+i%2:1+i%2], layerOf(t, f("own", fmt.Sprint(i))))...))
	}
	before := openDescriptors(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(envNumber("BERTH_TEST_TURMOIL", 2))*time.Second)
	defer cancel()
	var group sync.WaitGroup
	var rounds [5]int
	forever := func(which int, act func(name string) error) {
		group.Go(func() {
			for ; ctx.Err() == nil; rounds[which]++ {
				err := act(names[(which+rounds[which])%len(names)])
				// Somebody removed the image; or a layer was looked for between the damaged one's going and the repaired one's coming.
				if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%d: %v", which, err)
					return
				}
			}
		})
	}
	forever(0, func(name string) error { return container(t, s, name, "c0") })
	forever(1, func(name string) error { return container(t, s, name, "c1") })
	forever(2, func(name string) error { return s.Remove(t.Context(), name) })
	forever(3, func(name string) error { return exportAnyhow(t, s, name) })
	forever(4, func(name string) error { return damageAndRepair(t, s, name) })
	group.Wait()
	t.Logf("rounds: %d", rounds)
	for _, img := range s.Images() { // a repair may have brought one back without its tag
		if err := s.Remove(t.Context(), img.ID); err != nil {
			t.Error(err)
		}
	}
	wantClean(t, s, 0)
	if after := openDescriptors(t); after > before+4 { // of connections that wait
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// container pulls an image and makes a container of it, as far as others let it.
func container(t *testing.T, s *Store, name, key string) error {
	img, err := s.Pull(t.Context(), name, &Auth{Username: key})
	if err != nil {
		return err
	}
	if err := s.PrepareSnapshot(t.Context(), key, img.ID); err != nil {
		return err
	}
	mount, err := s.MountSnapshot(key, "")
	if err == nil {
		at := fmt.Sprintf("/proc/self/fd/%d/", mount.Fd())
		for file, size := range map[string]int{"base": 1, "own": 1} {
			if content, readErr := os.ReadFile(at + file); readErr != nil || len(content) != size {
				err = errors.Join(err, fmt.Errorf("%s: %q, %w", file, content, readErr))
			}
		}
		err = errors.Join(err, os.WriteFile(at+"new", []byte(strconv.Itoa(len(key))), 0o600))
		mount.Close()
	}
	return errors.Join(err, s.RemoveSnapshot(key))
}

// exportAnyhow: while it is damaged it can't be had.
func exportAnyhow(t *testing.T, s *Store, name string) error {
	if err := s.Export(t.Context(), []string{name}, io.Discard); !errors.Is(err, ErrCorrupt) {
		return err
	}
	return nil
}

// damageAndRepair damages the file of an image's top layer, of its metadata what makes no difference to who uses it.
func damageAndRepair(t *testing.T, s *Store, name string) error {
	img, err := s.Image(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.layerDir(img.layers[len(img.layers)-1]), os.O_WRONLY, 0)
	if err != nil {
		return nil // it was removed meanwhile
	}
	if s.format == formatErofs {
		f.WriteAt([]byte{1}, erofs.HeaderSize-1)
	}
	f.Close()
	return s.Verify(t.Context(), []string{name}, true, func(LayerCheck) {})
}
