package signature

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	simpleSigningType   = "application/vnd.dev.cosign.simplesigning.v1+json"
	signatureAnnotation = "dev.cosignproject.cosign/signature"
	cosignType          = "cosign container image signature"
)

// simplePayload is what of a "simple signing" document counts (containers/image, atomic-signature.md).
type simplePayload struct {
	Critical struct {
		Type  string `json:"type"`
		Image struct {
			Digest digest.Digest `json:"docker-manifest-digest"`
		} `json:"image"`
	} `json:"critical"`
}

// simpleSigning looks at the signatures that cosign keeps below a tag.
func (c *check) simpleSigning() (bool, error) {
	desc, found, err := c.source.Tag(c.ctx, strings.Replace(c.subject.String(), ":", "-", 1)+".sig")
	if err != nil || !found {
		return false, err
	}
	m, err := c.manifest(desc)
	if err != nil {
		return false, err
	}
	return c.each(m.Layers, c.simple)
}

func (c *check) simple(desc ocispec.Descriptor) (bool, error) {
	if desc.MediaType != simpleSigningType {
		return false, nil
	}
	sig, err := base64.StdEncoding.DecodeString(desc.Annotations[signatureAnnotation])
	if err != nil {
		return false, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	payload, err := c.read(desc)
	if err != nil {
		return false, err
	}
	if !signedBy(c.keys, payload, sig) {
		return false, nil
	}
	// Only now: what isn't signed isn't worth parsing.
	var p simplePayload
	if err := json.Unmarshal(payload, &p); err != nil {
		return false, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return p.Critical.Type == cosignType && p.Critical.Image.Digest == c.subject, nil
}
