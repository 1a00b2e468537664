package sandbox

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
)

// What a checkpoint changes is its layer, and whiteouts for what another runtime's says was removed.
func TestChanges(t *testing.T) {
	for what, w := range map[string]struct {
		layer   bool
		removed string
		want    []string
		words   string // of an error
	}{
		"nothing":                {},
		"a layer":                {layer: true, want: []string{"etc/new"}},
		"only removed paths":     {removed: `["/etc/group", "usr/bin"]`, want: []string{"etc/.wh.group", "usr/.wh.bin"}},
		"both":                   {layer: true, removed: `["/etc/group"]`, want: []string{"etc/.wh.group", "etc/new"}},
		"a directory and in it":  {removed: `["/usr/bin/sh", "/usr/bin", "/usr/bin"]`, want: []string{"usr/.wh.bin"}},
		"a path that climbs":     {removed: `["../../etc/group"]`, want: []string{"etc/.wh.group"}},
		"an empty list":          {layer: true, removed: `[]`, want: []string{"etc/new"}},
		"the root":               {removed: `["/"]`, words: "root"},
		"what is no list":        {removed: `{`, words: "deleted.files"},
		"a list of other things": {removed: `[1]`, words: "deleted.files"},
	} {
		dir := t.TempDir()
		if w.layer {
			f, err := os.Create(filepath.Join(dir, metadata.RootFsDiffTar))
			if err != nil {
				t.Fatal(err)
			}
			out := tar.NewWriter(f)
			if err := errors.Join(out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/new"}), out.Close(), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if w.removed != "" {
			if err := os.WriteFile(filepath.Join(dir, metadata.DeletedFilesFile), []byte(w.removed), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		path, err := changes(dir)
		if w.words != "" {
			if err == nil || !strings.Contains(err.Error(), w.words) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := tarNames(t, path); !slices.Equal(got, w.want) {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// tarNames are the names in a tar, in their order; none of no path.
func tarNames(t *testing.T, path string) []string {
	t.Helper()
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}
