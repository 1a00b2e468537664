package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cri"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/sirupsen/logrus"
)

// shelf is an image store of a few images.
type shelf struct {
	images  []*imagestore.Image
	archive []byte
	name    string
	pulled  []string
	removed []string
}

func (s *shelf) Pull(_ context.Context, ref string, _ *imagestore.Auth) (*imagestore.Image, error) {
	if ref == "absent" {
		return nil, imagestore.ErrUnavailable
	}
	s.pulled = append(s.pulled, ref)
	return s.images[0], nil
}
func (s *shelf) Image(ref string) (*imagestore.Image, error) {
	for _, i := range s.images {
		if i.ID == ref {
			return i, nil
		}
	}
	return nil, imagestore.ErrNotFound
}
func (s *shelf) Images() []*imagestore.Image { return s.images }
func (s *shelf) Remove(_ context.Context, ref string) error {
	s.removed = append(s.removed, ref)
	return nil
}
func (s *shelf) Usage(context.Context) (imagestore.Usage, error) { return imagestore.Usage{}, nil }
func (s *shelf) Import(_ context.Context, r io.Reader, name string) ([]*imagestore.Image, error) {
	var err error
	s.name = name
	if s.archive, err = io.ReadAll(r); err != nil {
		return nil, err
	}
	if len(s.archive) == 0 {
		return nil, imagestore.ErrCorrupt
	}
	return s.images[:1], nil
}

// serveShelf serves the store on a socket, whose path it returns.
func serveShelf(t *testing.T, s *shelf) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "berth.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	server := cri.NewServer(cri.Config{}, cri.Parts{Images: s, Log: log})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop(context.Background())
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path
}

func TestImagesCommand(t *testing.T) {
	s := &shelf{images: []*imagestore.Image{
		{ID: "sha256:0123456789abcdef", Tags: []string{"docker.io/library/web:1", "web:2"}, Size: 1234567},
		{ID: "sha256:ffff", Digests: []string{"web@sha256:aaaa"}, Size: 12},
		{ID: "sha256:eeee", Size: 999},
	}}
	socket := serveShelf(t, s)
	config := filepath.Join(t.TempDir(), "c.toml")
	archive := filepath.Join(t.TempDir(), "a.tar")
	if err := errors.Join(os.WriteFile(config, nil, 0o600), os.WriteFile(archive, []byte("tar"), 0o600)); err != nil {
		t.Fatal(err)
	}
	images := func(args ...string) (string, error) {
		return run(t, append([]string{"images", "--config", config, "--socket", socket}, args...)...)
	}

	out, err := images("list")
	want := `NAME                     ID            SIZE
docker.io/library/web:1  0123456789ab  1.2 MB
web:2                    0123456789ab  1.2 MB
web@sha256:aaaa          ffff          12 B
<none>                   eeee          999 B
`
	if err != nil || out != want {
		t.Errorf("list: %v\n%s", err, out)
	}

	out, err = images("import", archive, "--name", "web:3")
	if err != nil || out != "sha256:0123456789abcdef docker.io/library/web:1 web:2\n" {
		t.Errorf("import: %q, %v", out, err)
	}
	if string(s.archive) != "tar" || s.name != "web:3" {
		t.Errorf("imported %q as %q", s.archive, s.name)
	}
	if _, err = images("import", archive+".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("import of a missing file: %v", err)
	}
	if _, err = images("import", os.DevNull); err == nil || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("import of nothing: %v, want the daemon's own words", err)
	}

	if out, err = images("pull", "a", "b"); err != nil || strings.Join(s.pulled, " ") != "a b" {
		t.Errorf("pull: %q, %v, pulled %q", out, err, s.pulled)
	}
	if _, err = images("pull", "absent"); err == nil || !strings.HasPrefix(err.Error(), "pull absent: RegistryUnavailable: ") {
		t.Errorf("pull from nowhere: %v", err)
	}
	if out, err = images("rm", "sha256:ffff"); err != nil || strings.Join(s.removed, " ") != "sha256:ffff" {
		t.Errorf("rm: %q, %v, removed %q", out, err, s.removed)
	}
	if _, err = images("rm", "mistyped"); err == nil || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("rm of what isn't there: %v", err)
	}
}

func TestImagesWithoutDaemon(t *testing.T) {
	config := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := run(t, "images", "list", "--config", config, "--state", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "berth.sock") {
		t.Errorf("%v, want an error that names the socket", err)
	}
}

func TestFormatSize(t *testing.T) {
	for in, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1234567: "1.2 MB", 999_950_000: "1000.0 MB", 1 << 63: "9.2 EB", 1<<64 - 1: "18.4 EB",
	} {
		if got := formatSize(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
}

func TestImageNames(t *testing.T) {
	if got := shortID("sha256:ab"); got != "ab" {
		t.Errorf("short id %q", got)
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	newLogger(logConfig{Level: "warn", Format: formatJSON}, &out).Info("unseen")
	newLogger(logConfig{Level: "warn", Format: formatJSON}, &out).WithField("pod", "p").Warn("seen")
	if text := out.String(); !strings.HasPrefix(text, "{") || strings.Contains(text, "unseen") || !strings.Contains(text, `"pod":"p"`) {
		t.Errorf("log %q", text)
	}
}
