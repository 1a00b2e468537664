package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// asking runs a command against a shelf.
func asking(t *testing.T, s *shelf) func(args ...string) (string, error) {
	t.Helper()
	socket, config := serveShelf(t, s), filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (string, error) {
		return run(t, append(args, "--config", config, "--socket", socket)...)
	}
}

func hand(name, id, image string) *sandbox.ContainerInfo {
	return &sandbox.ContainerInfo{ID: id, ImageID: image, Config: &spec.Container{Metadata: spec.ContainerMetadata{Name: name}}}
}

// TestRemoveNamesUsers: of an image that containers have, the layers stay.
func TestRemoveNamesUsers(t *testing.T) {
	s := &shelf{images: []*imagestore.Image{{ID: "sha256:aaaa"}, {ID: "sha256:bbbb"}, {ID: "sha256:cccc"}}}
	s.crew.all = []*sandbox.ContainerInfo{hand("web", "0123456789abcdef", "sha256:bbbb")}
	for i := range 7 {
		s.crew.all = append(s.crew.all, hand(fmt.Sprint("c", i), fmt.Sprint(i), "sha256:cccc"))
	}
	berth := asking(t, s)
	out, err := berth("images", "rm", "sha256:aaaa", "sha256:bbbb", "sha256:cccc")
	want := `removed sha256:aaaa
removed sha256:bbbb; its layers stay for 1 container: web (0123456789ab)
removed sha256:cccc; its layers stay for 7 containers: c0 (0), c1 (1), c2 (2), c3 (3), c4 (4), and 2 more
`
	if err != nil || out != want || len(s.removed) != 3 {
		t.Errorf("%v, %q\n%s", err, s.removed, out)
	}
}

func TestPruneSaysWhatItFrees(t *testing.T) {
	s := &shelf{images: []*imagestore.Image{{ID: "sha256:aaaa", Size: 1000, Tags: []string{"app:1"}}, {ID: "sha256:bbbb", Size: 2000}}}
	s.crew.all = []*sandbox.ContainerInfo{hand("web", "0123", "sha256:bbbb")}
	berth := asking(t, s)
	for args, want := range map[string]string{
		"":                "nothing to remove\n",
		"--all --dry-run": "would be removed sha256:aaaa app:1\n1.0 kB would be freed at most, less where layers are shared\n",
		"--all":           "removed sha256:aaaa app:1\n1.0 kB freed at most, less where layers are shared\n",
	} {
		if out, err := berth(append([]string{"images", "prune"}, strings.Fields(args)...)...); err != nil || out != want {
			t.Errorf("%s: %v, %q", args, err, out)
		}
	}
}

func TestListAsJSON(t *testing.T) {
	berth := asking(t, &shelf{images: []*imagestore.Image{{ID: "sha256:aaaa", Size: 1000, Tags: []string{"app:1"}}}})
	out, err := berth("images", "list", "-o", "json")
	want := "{\n  \"images\": [\n    {\n      \"id\": \"sha256:aaaa\",\n      \"repoTags\": [\n        \"app:1\"\n      ],\n"
	if err != nil || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "}\n") || !strings.Contains(out, `"size": "1000"`) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := berth("images", "list", "-o", "yaml"); err == nil || !strings.Contains(err.Error(), `output "yaml": must be table or json`) {
		t.Errorf("%v", err)
	}
}

// TestExportHintsAtOutput: an archive's name among the references is meant for -o.
func TestExportHintsAtOutput(t *testing.T) {
	berth := asking(t, &shelf{})
	_, err := berth("images", "export", "absent", "out.tar")
	if err == nil || !strings.HasSuffix(err.Error(), "(to write the archive to out.tar: -o out.tar)") {
		t.Errorf("%v", err)
	}
	if _, err = berth("images", "export", "absent", "app:1"); err == nil || strings.Contains(err.Error(), "-o") {
		t.Errorf("of references only: %v", err)
	}
}

func TestImportOfNoArchive(t *testing.T) {
	_, err := asking(t, &shelf{})("images", "import", os.DevNull)
	if err == nil || err.Error() != "import /dev/null: not an image archive" {
		t.Errorf("%v", err)
	}
}
