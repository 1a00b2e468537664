package imagestore

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// needRoot skips tests of what only root may do: owners, devices, trusted attributes, mounts.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: layers have owners, devices and trusted.* attributes")
	}
}

func quietLog() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

func testConfig(t testing.TB) Config {
	cfg := DefaultConfig()
	cfg.RegistryConfigDir = t.TempDir()
	// Whatever a store does, it does with layers of both formats.
	cfg.LayerFormat = cmp.Or(os.Getenv("BERTH_TEST_LAYERS"), LayerFormatAuto)
	return cfg
}

func openStore(t testing.TB, root string, cfg Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), root, cfg, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newTestStore opens a store in a directory of the test's own.
func newTestStore(t testing.TB) *Store {
	t.Helper()
	needRoot(t)
	return openStore(t, t.TempDir(), testConfig(t))
}

// serve starts an empty registry on loopback, whose requests pass through wrap if that isn't nil, and returns its host.
func serve(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	var handler http.Handler = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func push(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, img); err != nil {
		t.Fatal(err)
	}
}

func pushIndex(t testing.TB, ref string, index v1.ImageIndex) {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(parsed, index); err != nil {
		t.Fatal(err)
	}
}

// file is an entry of a test layer. The zero type is a regular file, a name that ends with a slash a directory.
type file struct {
	tar.Header
	content string
}

func f(name, content string) file {
	return file{tar.Header{Name: name, Mode: 0o644}, content}
}

func dir(name string) file {
	return file{tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeDir}, ""}
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		hdr := f.Header
		hdr.Size = int64(len(f.content))
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func layerOf(t testing.TB, files ...file) v1.Layer {
	t.Helper()
	raw := tarOf(t, files...)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// imageOf makes an image for this machine.
func imageOf(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return configured(t, img, func(c *v1.ConfigFile) { c.OS, c.Architecture = "linux", runtime.GOARCH })
}

func configured(t testing.TB, img v1.Image, change func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	change(cfg)
	img, err = mutate.ConfigFile(img, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func mustPull(t testing.TB, s *Store, ref string) *Image {
	t.Helper()
	img, err := s.Pull(context.Background(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func configName(t testing.TB, img v1.Image) string {
	t.Helper()
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// readMounted reads a file of a detached mount.
func readMounted(t testing.TB, mount *os.File, name string) string {
	t.Helper()
	fd, err := unix.Openat(int(mount.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	opened := os.NewFile(uintptr(fd), name)
	defer opened.Close()
	content, err := io.ReadAll(opened)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func statMounted(t testing.TB, mount *os.File, name string) (unix.Stat_t, error) {
	t.Helper()
	var st unix.Stat_t
	err := unix.Fstatat(int(mount.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// entries are the names in a directory of the store.
func entries(t testing.TB, path string) []string {
	t.Helper()
	list, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// wantClean fails when the store keeps more than so many layers, or something half done.
func wantClean(t testing.TB, s *Store, layers int) {
	t.Helper()
	s.bin.wait()
	if got := entries(t, s.root+"/layers"); len(got) != layers {
		t.Errorf("layers on disk: %d, want %d", len(got), layers)
	}
	for _, dir := range []string{"/staging", "/unpacking"} {
		got := slices.DeleteFunc(entries(t, s.root+dir), func(name string) bool { return strings.HasPrefix(name, "probe-") }) // which is another's, and goes
		if len(got) != 0 {
			t.Errorf("left in %s: %v", dir, got)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unpacking) != 0 || len(s.held) != 0 {
		t.Errorf("left in memory: %d layers unpacking, %d held", len(s.unpacking), len(s.held))
	}
}

func ref(host, repository string) string { return fmt.Sprintf("%s/%s", host, repository) }

// readLayer reads a file of a layer that is in its place.
func readLayer(t *testing.T, s *Store, chain, name string) string {
	t.Helper()
	lower, release, err := s.lower(chain, s.format)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	content, err := os.ReadFile(filepath.Join(lower.Reach(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
