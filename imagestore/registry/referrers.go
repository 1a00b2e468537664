package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Tag finds what another tag of the same repository names. found is false when every host says that there is none.
func (r *Repository) Tag(ctx context.Context, tag string) (desc ocispec.Descriptor, found bool, err error) {
	ref, err := reference.WithTag(reference.TrimNamed(r.name), tag)
	if err != nil {
		return ocispec.Descriptor{}, false, fmt.Errorf("tag %q: %w", tag, err)
	}
	err = r.eachHost(ctx, "resolve", ref, func(ctx context.Context, h host) error {
		_, desc, err = h.resolver.Resolve(ctx, ref.String())
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return ocispec.Descriptor{}, false, nil
	}
	return desc, err == nil, err
}

// Referrers lists the manifests of a type that refer to a digest, of the first host that has any.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	err := r.eachHost(ctx, "list referrers", subject, func(ctx context.Context, h host) error {
		f, err := h.resolver.Fetcher(ctx, h.ref)
		if err != nil {
			return err
		}
		lister, can := f.(remotes.ReferrersFetcher)
		if !can {
			return fmt.Errorf("referrers of %s: %w", subject, ErrNotFound)
		}
		list, err = lister.FetchReferrers(ctx, subject, remotes.WithReferrerArtifactTypes(artifactType))
		if err == nil && len(list) == 0 {
			return fmt.Errorf("referrers of %s: %w", subject, ErrNotFound)
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return list, err
}

// eachHost asks the hosts in their order until one call succeeds. The error is ErrNotFound only when all say so.
func (r *Repository) eachHost(ctx context.Context, verb string, what fmt.Stringer, call func(context.Context, host) error) error {
	ctx = quiet(ctx)
	var failed hostErrors
	for i, h := range r.hosts {
		if !h.caps.Has(docker.HostCapabilityPull) {
			continue
		}
		err := within(ctx, r.client.Stall, i == len(r.hosts)-1, func(ctx context.Context) error { return call(ctx, h) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s %s: %w", verb, what, context.Cause(ctx))
		}
		one := newHostError(h.name, err)
		if errors.Is(err, ErrNotFound) {
			one.kind = ErrNotFound
		}
		failed = append(failed, one)
	}
	for _, f := range failed {
		if f.kind != ErrNotFound {
			return wrapHosts(verb, what, hostErrors{f})
		}
	}
	return wrapHosts(verb, what, failed)
}
