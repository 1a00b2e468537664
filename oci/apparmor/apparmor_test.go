package apparmor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// host is one whose kernel has AppArmor with these profiles.
func host(t *testing.T, enabled, profiles string) Host {
	t.Helper()
	dir := t.TempDir()
	h := Host{enabled: filepath.Join(dir, "enabled"), loaded: filepath.Join(dir, "profiles")}
	for file, text := range map[string]string{h.enabled: enabled, h.loaded: profiles} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestLoaded(t *testing.T) {
	h := host(t, "Y\n", "/usr/bin/man (enforce)\nmy web server (complain)\nberth-default (enforce)\nberth-default//child (enforce)\n")
	for name, want := range map[string]bool{"berth-default": true, "my web server": true, "/usr/bin/man": true, "berth": false, "berth-default ": false, "child": false, "": false} {
		if got, err := h.Loaded(name); got != want || err != nil {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
}

func TestOff(t *testing.T) {
	for name, h := range map[string]Host{"disabled": host(t, "N\n", "a (enforce)\n"), "not in the kernel": {enabled: "/no/such/file"}} {
		if h.Enabled() {
			t.Errorf("%s: enabled", name)
		}
		if _, err := h.Loaded("a"); !errors.Is(err, ErrOff) {
			t.Errorf("%s: %v", name, err)
		}
		if err := h.LoadDefault("a"); !errors.Is(err, ErrOff) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unreadable := host(t, "Y\n", "")
	unreadable.loaded = "/no/such/file"
	if _, err := unreadable.Loaded("a"); err == nil || errors.Is(err, ErrOff) {
		t.Errorf("without the kernel's list: %v", err)
	}
}

func TestLoadDefault(t *testing.T) {
	h := host(t, "Y\n", "there (enforce)\n")
	var loaded []string
	h.load = func(name string) error { loaded = append(loaded, name); return nil }
	if err := h.LoadDefault("there"); err != nil || len(loaded) > 0 {
		t.Errorf("one that is there: %v, loaded %v", err, loaded)
	}
	if err := h.LoadDefault("new"); err != nil || len(loaded) != 1 || loaded[0] != "new" {
		t.Errorf("a new one: %v, loaded %v", err, loaded)
	}
	h.load = func(string) error { return errors.New("no parser") }
	if err := h.LoadDefault("new"); err == nil || !strings.Contains(err.Error(), "load AppArmor profile new: no parser") {
		t.Errorf("without a parser: %v", err)
	}
}
