package signature

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/pkg/imageverifier/bindir"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// judged asks the operator's programs. Unlike containerd it doesn't take a directory that isn't there for a yes: whoever configured one wants
// to have images judged.
func (v *Verifier) judged(ctx context.Context, ref reference.Named, desc ocispec.Descriptor) error {
	dir := v.policy.VerifierDir
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%w: verifier programs: %w", ErrRefused, err)
	}
	config := &bindir.Config{BinDir: dir, MaxVerifiers: -1}
	if err := config.PerVerifierTimeout.UnmarshalText([]byte(v.policy.VerifierTimeout)); err != nil {
		return fmt.Errorf("verifier_timeout %q: %w", v.policy.VerifierTimeout, err)
	}
	judgement, err := bindir.NewImageVerifier(config).VerifyImage(ctx, ref.String(), desc)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case !judgement.OK:
		return fmt.Errorf("%w: %s", ErrRefused, judgement.Reason)
	}
	return nil
}
