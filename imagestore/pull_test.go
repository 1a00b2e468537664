package imagestore

import (
	"testing"
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
	mount, err := s.MountSnapshot("c1")
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
