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
	"github.com/berth-runtime/berth/sandbox"
	"github.com/sirupsen/logrus"
)

// shelf is an image store of a few images.
type shelf struct {
	images  []*imagestore.Image
	archive []byte
	name    string
	pulled  []string
	removed []string
	crew    crew
}

// roster is embedded by another name than that of its method.
type roster = cri.Containers

// crew are a daemon's containers.
type crew struct {
	roster
	all []*sandbox.ContainerInfo
}

func (c *crew) Containers(sandbox.ContainerFilter) []*sandbox.ContainerInfo { return c.all }

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
		return nil, imagestore.ErrNotArchive
	}
	return s.images[:1], nil
}

func (s *shelf) PullProgress(string, *imagestore.Auth) []imagestore.LayerProgress { return nil }
func (s *shelf) Export(_ context.Context, refs []string, w io.Writer) error {
	if refs[0] == "absent" {
		w.Write([]byte("half"))
		return imagestore.ErrNotFound
	}
	_, err := io.WriteString(w, "archive of "+strings.Join(refs, " "))
	return err
}
func (s *shelf) Verify(_ context.Context, refs []string, repair bool, report func(imagestore.LayerCheck)) error {
	report(imagestore.LayerCheck{Image: "sha256:0123456789abcdef", Layer: "sha256:aaaa"})
	report(imagestore.LayerCheck{Image: "sha256:0123456789abcdef", Layer: "sha256:bbbb", Problem: "a file is another", Damaged: true, Repaired: repair})
	report(imagestore.LayerCheck{Image: "sha256:0123456789abcdef", Layer: "sha256:cccc", Problem: "no origin"})
	report(imagestore.LayerCheck{Image: "sha256:dddd", Problem: "it is gone"})
	return nil
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
	server := cri.NewServer(cri.Config{}, cri.Parts{Images: s, Containers: &s.crew, Programs: &s.crew, Log: log})
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
	s.pulled = nil
	if _, err = images("pull", "a", "absent", "b", "absent"); err == nil || strings.Count(err.Error(), "pull absent: ") != 2 || strings.Join(s.pulled, " ") != "a b" {
		t.Errorf("pull of some that aren't there: %v, pulled %q", err, s.pulled)
	}
	if _, err = images("pull", "absent"); err == nil || !strings.HasPrefix(err.Error(), "pull absent: RegistryUnavailable: ") {
		t.Errorf("pull from nowhere: %v", err)
	}
	if out, err = images("rm", "sha256:ffff"); err != nil || strings.Join(s.removed, " ") != "sha256:ffff" {
		t.Errorf("rm: %q, %v, removed %q", out, err, s.removed)
	}
	s.removed = nil
	_, err = images("rm", "mistyped", "sha256:ffff", "wrong")
	if err == nil || strings.Count(err.Error(), "no such image") != 2 || strings.Join(s.removed, " ") != "sha256:ffff" {
		t.Errorf("rm of what isn't there, and what is: %v, removed %q", err, s.removed)
	}
}

func TestImagesExportAndVerify(t *testing.T) {
	socket := serveShelf(t, &shelf{})
	config := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	images := func(args ...string) (string, error) {
		return run(t, append([]string{"images", "--config", config, "--socket", socket}, args...)...)
	}
	if out, err := images("export", "a", "b"); err != nil || out != "archive of a b" {
		t.Errorf("export: %q, %v", out, err)
	}
	path := filepath.Join(t.TempDir(), "out.tar")
	if _, err := images("export", "-o", path, "a"); err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "archive of a" {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := images("export", "-o", path, "absent"); err == nil {
		t.Error("exported what isn't there")
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	out, err := images("verify")
	if err == nil || !strings.Contains(err.Error(), "damaged layers: 1") || !strings.Contains(out, "damaged: layer bbbb of image 0123456789ab: a file is another") ||
		!strings.Contains(out, "not checked: layer cccc") || !strings.HasSuffix(out, "\n3 layers read\n") || !strings.Contains(out, "not checked: image dddd: it is gone") || strings.Contains(out, "aaaa") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if out, err = images("verify", "--repair"); err != nil || !strings.Contains(out, "repaired: layer bbbb") {
		t.Errorf("verify --repair: %v\n%s", err, out)
	}
}

func TestLayerLines(t *testing.T) {
	one := imagestore.LayerProgress{Blob: "sha256:0123456789abcdef", State: imagestore.LayerPulling, Received: 500, Total: 1000}
	if got := layerLines([]imagestore.LayerProgress{one}, 79, 23); len(got) != 1 || got[0] != "0123456789ab  [============            ]  500 B of 1.0 kB" {
		t.Errorf("%q", got)
	}
	many := make([]imagestore.LayerProgress, 50)
	for i := range many {
		many[i] = one
		if i < 10 {
			many[i].State = imagestore.LayerDone
		}
	}
	if got := layerLines(many, 79, 60); len(got) != 21 || !strings.HasPrefix(got[20], "and 21 more") {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
	if got := layerLines(many, 39, 5); len(got) != 5 || got[0] != "0123456789ab  500 B of 1.0 kB" || got[4] != "and 37 more" {
		t.Errorf("on a small terminal: %q", got)
	}
	many[11].State = imagestore.LayerWaiting
	if got := layerLines(many[10:14], 39, 3); got[0] != got[1] || got[2] != "and 2 more" {
		t.Errorf("who waits is shown: %q", got)
	}
	if got := layerLines(many, 79, 0); len(got) != 1 {
		t.Errorf("on one line: %q", got)
	}
	if got := bar(7, 0) + bar(9, 3); got != "["+strings.Repeat(" ", 24)+"]["+strings.Repeat("=", 24)+"]" {
		t.Errorf("%q", got)
	}
}

func TestImagesWithoutDaemon(t *testing.T) {
	config := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := run(t, "images", "list", "--config", config, "--state", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "berth.sock") || !strings.Contains(err.Error(), "no daemon answers") || strings.Contains(err.Error(), "desc") {
		t.Errorf("%v, want an error that names the socket, in plain words", err)
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

// TestInterrupted: who presses ^C isn't told of contexts.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	conn, err := dial(serveShelf(t, &shelf{}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := pullImages(ctx, conn, io.Discard, []string{"app:1"}, nil); err == nil || err.Error() != "pull app:1: interrupted" {
		t.Errorf("got %v", err)
	}
}
