package imagestore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-runtime/berth/imagestore/archive"
	"github.com/berth-runtime/berth/imagestore/layer"
	"github.com/berth-runtime/berth/imagestore/manifest"
	"github.com/berth-runtime/berth/imagestore/registry"
	"github.com/berth-runtime/berth/imagestore/signature"
)

// puller brings images in.
type puller struct {
	*catalog
	installer *installer
	registry  *registry.Client
	verifier  *signature.Verifier
	platform  platforms.MatchComparer
	flights   *flights
}

// Pull brings an image from its registry, or finds that it is here already; the registry is asked in both cases. auth may be nil. Callers
// with the same reference and credentials share one pull. It returns as soon as ctx ends, with its cause. Errors: ErrInvalidReference;
// ErrNotFound, ErrDenied, ErrUnavailable, naming each host that was asked; ErrRefused; ErrCorrupt, ErrTooLarge, ErrUnsupported, naming the document
// or layer; and those of the disk. It may be called again after any of them.
func (p *puller) Pull(ctx context.Context, ref string, auth *Auth) (*Image, error) {
	named, err := parseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("pull image: %w", err)
	}
	auth = normal(auth)
	img, err := p.flights.join(ctx, flightKey(named, auth), func(ctx context.Context) (*Image, error) {
		return guarded(p.log, "pull image "+named.String(), func() (*Image, error) { return p.pull(ctx, named, auth) })
	})
	if err != nil {
		return nil, fmt.Errorf("pull image %s: %w", named, err)
	}
	return img, nil
}

// normal is nil for credentials without content.
func normal(auth *Auth) *Auth {
	if auth != nil && *auth == (Auth{}) {
		return nil
	}
	return auth
}

// flightKey keeps the credentials out of sight.
func flightKey(ref reference.Named, auth *Auth) string {
	if auth == nil {
		return ref.String()
	}
	encoded, err := json.Marshal(auth)
	if err != nil { // a struct of strings
		encoded = fmt.Append(nil, *auth)
	}
	return fmt.Sprintf("%s %x", ref, sha256.Sum256(encoded))
}

func (p *puller) pull(ctx context.Context, ref reference.Named, auth *Auth) (*Image, error) {
	started := time.Now()
	repo, desc, err := p.resolve(ctx, ref, auth)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	img, err := p.bring(ctx, ref, repo, desc)
	for errors.Is(err, ErrCorrupt) { // a mirror's fault, perhaps
		if desc, err = repo.Next(ctx, err); err != nil {
			return nil, classify(err)
		}
		img, err = p.bring(ctx, ref, repo, desc)
	}
	if err != nil {
		return nil, err
	}
	p.log.WithField("image", ref.String()).WithField("took", time.Since(started)).Info("image pulled")
	return img, nil
}

// bring makes an image of what a name resolved to.
func (p *puller) bring(ctx context.Context, ref reference.Named, repo *registry.Repository, desc ocispec.Descriptor) (*Image, error) {
	if err := p.verifier.Verify(ctx, ref, desc, repo); err != nil {
		return nil, classify(err)
	}
	img, err := manifest.Read(ctx, watched{repo, p}, desc, p.platform)
	if err != nil {
		return nil, classify(err)
	}
	installed, err := p.installer.install(ctx, repo, img, namesOf(ref, desc.Digest.String()))
	return installed, classify(err)
}

func (p *puller) resolve(ctx context.Context, ref reference.Named, auth *Auth) (*registry.Repository, ocispec.Descriptor, error) {
	repo, desc, err := p.registry.Resolve(ctx, ref, auth)
	if errors.Is(err, registry.ErrNotFound) {
		// Of the name itself this means: no such image. Of a part of an image it doesn't.
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return repo, desc, classify(err)
}

// classify adds this package's word for what the parts say in theirs.
func classify(err error) error {
	kinds := []struct{ theirs, ours error }{
		{layer.ErrCorrupt, ErrCorrupt}, {manifest.ErrCorrupt, ErrCorrupt}, {registry.ErrCorrupt, ErrCorrupt}, {archive.ErrCorrupt, ErrCorrupt},
		{layer.ErrTooLarge, ErrTooLarge}, {archive.ErrTooLarge, ErrTooLarge},
		{manifest.ErrUnsupported, ErrUnsupported}, {signature.ErrRefused, ErrRefused},
		{registry.ErrDenied, ErrDenied}, {registry.ErrUnavailable, ErrUnavailable}, {registry.ErrNotFound, ErrUnavailable},
	}
	for _, ours := range []error{ErrNotFound, ErrCorrupt, ErrTooLarge, ErrUnsupported, ErrRefused, ErrDenied, ErrUnavailable} {
		if errors.Is(err, ours) {
			return err
		}
	}
	for _, kind := range kinds {
		if errors.Is(err, kind.theirs) {
			return fmt.Errorf("%w: %w", kind.ours, err)
		}
	}
	return err
}

// watched opens blobs whose reading ends when nothing comes.
type watched struct {
	manifest.Blobs
	puller *puller
}

func (w watched) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ctx, dog, release := watch(ctx, time.Duration(w.puller.cfg.PullProgressTimeout))
	blob, err := w.Blobs.Fetch(ctx, desc)
	if err != nil {
		release()
		return nil, err
	}
	return &watchedBlob{blob, dog, release}, nil
}

type watchedBlob struct {
	io.ReadCloser
	dog     *watchdog
	release func()
}

func (b *watchedBlob) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.dog.touch()
	}
	return n, err
}

func (b *watchedBlob) Close() error {
	b.release()
	return b.ReadCloser.Close()
}
