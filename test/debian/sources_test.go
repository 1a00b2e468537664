package debian

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSourcesOf(t *testing.T) {
	for _, c := range []struct {
		name, file, content, want string
	}{
		{
			"deb822", "sources.list.d/debian.sources",
			"Types: deb\n# a comment\nURIs: http://debian.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /k.gpg\n\n" +
				"Types: deb\nURIs: http://other.example\nSuites: bookworm\nComponents: extra\n",
			"Types: deb-src\nURIs: http://debian.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /k.gpg\n\n",
		},
		{
			"not Debian", "sources.list.d/node.sources",
			"Types: deb\nURIs: http://node.example\nSuites: nodistro\nComponents: main\n", "",
		},
		{
			"lines", "sources.list",
			"deb [arch=amd64 signed-by=/k.gpg] http://debian.example/debian bookworm main\n# deb http://no.example x main\ndeb http://cloud.example sdk extra\n",
			"Types: deb-src\nURIs: http://debian.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: /k.gpg\n\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, c.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := sourcesOf(dir, source, "bookworm")
			if err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}
