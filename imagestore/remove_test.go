package imagestore

import (
	"errors"
	"sync"
	"testing"
)

func TestRootRemove(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	img := imageOf(t, layerOf(t, f("a", "1")))
	push(t, ref(host, "app:1"), img)
	push(t, ref(host, "other:2"), img)
	mustPull(t, s, ref(host, "app:1"))
	mustPull(t, s, ref(host, "other:2"))
	if err := s.Remove(t.Context(), ref(host, "app:1")); err != nil { // takes all names
		t.Fatal(err)
	}
	if _, err := s.Image(ref(host, "other:2")); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{ref(host, "app:1"), configName(t, img), "never-seen", "abcdef"} {
		if err := s.Remove(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Remove(t.Context(), "BAD//reference"); !errors.Is(err, ErrInvalidReference) {
		t.Errorf("got %v", err)
	}
	wantClean(t, s, 0)
}

func TestRootRemoveAtOnce(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if err := s.Remove(t.Context(), img.ID); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	wantClean(t, s, 0)
}

// TestRootRemoveFails: an image whose record can't be deleted is still there, with its layers.
func TestRootRemoveFails(t *testing.T) {
	s, img := pulled(t, layerOf(t, f("a", "1")))
	if err := s.db.close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), img.ID); err == nil {
		t.Error("removed without a database")
	}
	if _, err := s.Image(img.ID); err != nil {
		t.Error(err)
	}
	mount, err := s.MountImage(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	mount.Close()
	wantClean(t, s, 1)
}
