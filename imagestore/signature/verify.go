package signature

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"crypto"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxDocument bounds a signature and the manifest that holds some.
	maxDocument = 4 << 20
	// maxSignatures bounds those that are looked at for one image.
	maxSignatures = 64
)

// Source is the repository that the image is pulled from.
type Source interface {
	// Tag finds what a tag names in the repository; found is false when it names nothing.
	Tag(ctx context.Context, tag string) (desc ocispec.Descriptor, found bool, err error)
	// Referrers lists the manifests of a type that refer to a digest.
	Referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error)
	// Fetch opens a blob or manifest. What it yields is checked here.
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Verifier holds images against a policy. Keys and programs are read anew for each image.
type Verifier struct {
	policy Policy
}

// New returns one for a policy that Validate found possible.
func New(policy Policy) *Verifier { return &Verifier{policy: policy} }

// Verify returns nil when the policy accepts the image that ref resolved to. An error wraps ErrRefused, or is that of source.
func (v *Verifier) Verify(ctx context.Context, ref reference.Named, desc ocispec.Descriptor, source Source) error {
	rule := v.policy.rule(ref)
	switch {
	case len(rule.Keys) > 0:
		if err := v.signed(ctx, desc, rule, source); err != nil {
			return fmt.Errorf("verify signature of %s: %w", desc.Digest, err)
		}
	case rule.Action != Accept:
		return fmt.Errorf("%w: no rule accepts %s", ErrRefused, ref.Name())
	}
	return v.judged(ctx, ref, desc)
}

func (v *Verifier) signed(ctx context.Context, desc ocispec.Descriptor, rule Rule, source Source) error {
	keys, err := readKeys(rule.Keys)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	c := check{ctx: ctx, source: source, keys: keys, subject: desc.Digest, left: maxSignatures}
	for _, form := range []func() (bool, error){c.simpleSigning, c.bundles} {
		good, err := form()
		if errors.Is(err, errUnreadable) {
			c.left--
			continue
		}
		if good || err != nil {
			return err
		}
	}
	if c.left == maxSignatures {
		return fmt.Errorf("%w: it has no signature, and must have one by a key of %s", ErrRefused, strings.Join(rule.Keys, ", "))
	}
	return fmt.Errorf("%w: none of its signatures is by a key of %s", ErrRefused, strings.Join(rule.Keys, ", "))
}

// check looks for one good signature of one digest.
type check struct {
	ctx     context.Context
	source  Source
	keys    []crypto.PublicKey
	subject digest.Digest
	left    int // signatures that may still be looked at
}

// errUnreadable: a signature that isn't one doesn't keep another from being good.
var errUnreadable = errors.New("signature can't be read")

// each calls one for every descriptor, until one finds a good signature. What can't be read is passed over.
func (c *check) each(list []ocispec.Descriptor, one func(ocispec.Descriptor) (bool, error)) (bool, error) {
	for _, desc := range list {
		if c.left--; c.left < 0 {
			return false, fmt.Errorf("%w: it has more than %d signatures", ErrRefused, maxSignatures)
		}
		good, err := one(desc)
		if errors.Is(err, errUnreadable) {
			continue
		}
		if good || err != nil {
			return good, err
		}
	}
	return false, nil
}

// manifest reads the manifest that holds signatures.
func (c *check) manifest(desc ocispec.Descriptor) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	raw, err := c.read(desc)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return m, nil
}

func (c *check) read(desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size < 0 || desc.Size > maxDocument || desc.Digest.Validate() != nil {
		return nil, fmt.Errorf("%w: %q of %d bytes", errUnreadable, desc.Digest, desc.Size)
	}
	blob, err := c.source.Fetch(c.ctx, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size})
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	raw, err := io.ReadAll(io.LimitReader(blob, desc.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != desc.Size || desc.Digest.Algorithm().FromBytes(raw) != desc.Digest {
		return nil, fmt.Errorf("%w: it isn't what its digest promises", errUnreadable)
	}
	return raw, nil
}
