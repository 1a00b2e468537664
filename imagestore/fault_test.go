package imagestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/imagestore/manifest"
)

// faultyPlatform is a fault where a manifest is read, in a pull's own goroutine.
type faultyPlatform struct{ platforms.MatchComparer }

func (faultyPlatform) Match(ocispec.Platform) bool { panic("a reader's fault") }

// faultyBlobs have a fault where a layer is fetched, or where it is read.
type faultyBlobs struct {
	manifest.Blobs
	fetch bool
}

func (b faultyBlobs) Fetch(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	if b.fetch {
		panic("a fetch's fault")
	}
	return io.NopCloser(b), nil
}

func (faultyBlobs) Read([]byte) (int, error) { panic("a stream's fault") }

// An image that a reader stumbles over fails its own pull, and nothing else.
func TestRootPullPanic(t *testing.T) {
	s := newTestStore(t)
	var text bytes.Buffer
	log := logrus.New()
	log.SetOutput(&text)
	s.log = log
	host := serve(t, nil)
	push(t, ref(host, "app"), randomImage(t, 2, 1000))
	sound := s.platform
	s.platform = faultyPlatform{sound}
	_, err := s.Pull(t.Context(), ref(host, "app"), nil)
	if !errors.Is(err, ErrPanicked) || strings.Contains(err.Error(), "reader's") {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"a reader's fault", "fault_test.go", "pull image " + host} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, text.String())
		}
	}
	wantClean(t, s, 0)
	s.platform = sound
	mustPull(t, s, ref(host, "app"))
	wantClean(t, s, 2)
}

func TestRootInstallPanic(t *testing.T) {
	s := newTestStore(t)
	host := serve(t, nil)
	push(t, ref(host, "app"), randomImage(t, 3, 1000))
	named, err := parseReference(ref(host, "app"))
	if err != nil {
		t.Fatal(err)
	}
	repo, desc, err := s.resolve(t.Context(), named, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	img, err := manifest.Read(t.Context(), repo, desc, s.platform)
	if err != nil {
		t.Fatal(err)
	}
	for name, blobs := range map[string]faultyBlobs{"fetch": {fetch: true}, "read": {}} {
		if _, err := s.installer.install(t.Context(), blobs, img, names{}); !errors.Is(err, ErrPanicked) || !strings.Contains(err.Error(), "layer sha256:") {
			t.Errorf("%s: got %v", name, err)
		}
		wantClean(t, s, 0)
	}
	mustPull(t, s, ref(host, "app"))
}
