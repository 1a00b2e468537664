package cgroup

import (
	"errors"
	"path"
	"strings"
	"testing"
)

func TestContainerPath(t *testing.T) {
	for _, c := range []struct {
		driver     Driver
		parent, id string
		want       string // "": refused
	}{
		{Cgroupfs, "/kubepods/burstable/podx", "abc", "/kubepods/burstable/podx/abc"},
		{Cgroupfs, "/kubepods/", "abc", "/kubepods/abc"},
		{Cgroupfs, "", "abc", "/abc"},
		{Cgroupfs, "/", "abc", "/abc"},
		{Cgroupfs, "kubepods", "abc", ""},
		{Cgroupfs, "/a/../b", "abc", ""},
		{Cgroupfs, "/a", "../abc", ""},
		{Cgroupfs, "/a", "", ""},
		{Systemd, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice", "abc", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/berth-abc.scope"},
		{Systemd, "kubepods-burstable-podx.slice", "abc", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/berth-abc.scope"},
		{Systemd, "", "abc", "/system.slice/berth-abc.scope"},
		{Systemd, "/kubepods/podx", "abc", ""},
		{Systemd, "/a--b.slice", "abc", ""},
		{Systemd, "/.slice", "abc", ""},
		{Systemd, "/-.slice", "abc", "/berth-abc.scope"}, // the root slice
		{Systemd, "/a.slice", "x/../../y", ""},
	} {
		got, err := ContainerPath(c.driver, c.parent, c.id)
		if c.want == "" {
			if !errors.Is(err, ErrInvalidPath) {
				t.Errorf("%+v: %q, error %v", c, got, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

// FuzzPath: what passes stays where it says, whatever the file system makes of it.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/a/b", "/a/../b", "//a", "a", "/a-b.slice", "/.slice", "/a\x00"} {
		f.Add(s, "id")
	}
	f.Fuzz(func(t *testing.T, parent, id string) {
		for _, driver := range []Driver{Cgroupfs, Systemd} {
			got, err := ContainerPath(driver, parent, id)
			if err != nil {
				continue
			}
			if path.Clean(got) != got || !strings.HasPrefix(got, "/") || strings.ContainsAny(got, "\x00\n") {
				t.Errorf("%q, %q: %q", parent, id, got)
			}
			if !strings.HasSuffix(strings.TrimSuffix(got, ".scope"), id) {
				t.Errorf("%q, %q: %q does not end in the id", parent, id, got)
			}
		}
	})
}
