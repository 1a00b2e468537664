package signature

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/reference"
)

// ErrRefused: the policy doesn't want the image.
var ErrRefused = errors.New("image is refused by the signature policy")

// What a rule may say instead of naming keys.
const (
	Accept = "accept"
	Reject = "reject"
)

// Policy is who must have signed which images.
type Policy struct {
	// Default is for images that no rule is for: Accept or Reject.
	Default string `toml:"default"`
	// Rules: the one with the longest Images that fits an image's name counts.
	Rules []Rule `toml:"rules"`
	// VerifierDir has programs that are asked about every image that is otherwise accepted, in lexical order; all must exit with 0. "": none.
	VerifierDir string `toml:"verifier_dir"`
	// VerifierTimeout is how long one may take, like "10s".
	VerifierTimeout string `toml:"verifier_timeout"`
}

// Rule is for the images of a registry, of a part of its repositories, or of one repository.
type Rule struct {
	// Images is "registry.example", "registry.example/team" or "docker.io/library/busybox".
	Images string `toml:"images"`
	// Keys are files with public keys (PEM: ECDSA, RSA, Ed25519), by one of which an image must be signed.
	Keys []string `toml:"keys"`
	// Action is Accept or Reject, in a rule without keys.
	Action string `toml:"action"`
}

// DefaultPolicy accepts everything.
func DefaultPolicy() Policy {
	return Policy{Default: Accept, Rules: []Rule{}, VerifierTimeout: "10s"}
}

// Validate names each field that can't be, on a line of its own. It doesn't look at files.
func (p Policy) Validate() error {
	var errs []error
	if p.Default != Accept && p.Default != Reject {
		errs = append(errs, fmt.Errorf("default %q: must be %q or %q", p.Default, Accept, Reject))
	}
	if p.VerifierDir != "" && !filepath.IsAbs(p.VerifierDir) {
		errs = append(errs, fmt.Errorf("verifier_dir %q: must be an absolute path", p.VerifierDir))
	}
	if _, err := p.verifierTimeout(); err != nil {
		errs = append(errs, err)
	}
	for i, r := range p.Rules {
		if err := r.validate(); err != nil {
			errs = append(errs, fmt.Errorf("rules[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func (p Policy) verifierTimeout() (time.Duration, error) {
	d, err := time.ParseDuration(p.VerifierTimeout)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("verifier_timeout %q: must be a positive time like \"10s\"", p.VerifierTimeout)
	}
	return d, nil
}

func (r Rule) validate() error {
	// A host alone is no reference: try it with a repository, as the rule means all of them.
	if _, err := reference.ParseNamed(r.Images + "/any"); err != nil || strings.HasSuffix(r.Images, "/") {
		return fmt.Errorf("images %q: must be a registry, or a registry with a part of a repository's name", r.Images)
	}
	switch {
	case len(r.Keys) > 0 && r.Action != "":
		return errors.New("action and keys exclude each other")
	case len(r.Keys) == 0 && r.Action != Accept && r.Action != Reject:
		return fmt.Errorf("action %q: must be %q or %q where there are no keys", r.Action, Accept, Reject)
	}
	for _, key := range r.Keys {
		if !filepath.IsAbs(key) {
			return fmt.Errorf("keys %q: must be an absolute path", key)
		}
	}
	return nil
}

// rule finds the one that counts for a name.
func (p Policy) rule(ref reference.Named) Rule {
	best := Rule{Action: p.Default}
	for _, r := range p.Rules {
		name := ref.Name()
		if (name == r.Images || strings.HasPrefix(name, r.Images+"/")) && len(r.Images) > len(best.Images) {
			best = r
		}
	}
	return best
}
