package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// TestLogDirectory: a pod's log directory is made where it is missing, with its parents, and goes again with a pod that isn't set up; one that
// was there stays, also behind a symlink.
func TestLogDirectory(t *testing.T) {
	there := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(there, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir   string
		stays bool
	}{
		"to be made":     {filepath.Join(t.TempDir(), "logs"), false},
		"and its parent": {filepath.Join(t.TempDir(), "pods", "logs"), false},
		"there":          {there, true},
		"a symlink":      {link, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newWorld(t).start()
			config := podConfig("web")
			config.LogDirectory, config.Security.Namespaces.PID = c.dir, spec.NamespacePod
			refused := errors.New("refused")
			d.fail("launch pause", refused) // after the directory was made
			if _, err := d.m.RunPod(t.Context(), config); !errors.Is(err, refused) {
				t.Fatalf("the test's premise: %v", err)
			}
			if _, err := os.Stat(c.dir); os.IsNotExist(err) == c.stays {
				t.Errorf("after a pod that failed: %v", err)
			}
			d.fail("launch pause", nil)
			d.runPod(config)
			if st, err := os.Stat(c.dir); err != nil || !st.IsDir() {
				t.Errorf("with a pod: %v, %v", st, err)
			}
		})
	}
}

func TestLogDirectoryIsAFile(t *testing.T) {
	d := newWorld(t).start()
	config := podConfig("web")
	config.LogDirectory = filepath.Join(t.TempDir(), "logs")
	if err := os.WriteFile(config.LogDirectory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := d.m.RunPod(t.Context(), config)
	if want := "mkdir " + config.LogDirectory + ": not a directory"; !errors.Is(err, ErrLogPath) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %v and %s", err, ErrLogPath, want)
	}
	if st, err := os.Stat(config.LogDirectory); err != nil || !st.Mode().IsRegular() {
		t.Errorf("the file: %v, %v", st, err)
	}
	if pods := d.m.Pods(PodFilter{}); len(pods) > 0 {
		t.Errorf("left: %v", pods)
	}
	d.settled()
}
