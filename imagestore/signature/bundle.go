package signature

import (
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	inTotoType = "application/vnd.in-toto+json"
	// signPredicate says "this image is signed". Other statements about an image (what it was built of, what is wrong with it) are signed
	// by the same keys, and approve nothing.
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

// bundle is what of a sigstore bundle counts (sigstore_bundle.proto). JSON has byte fields in base64.
type bundle struct {
	Envelope struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// statement is what of an in-toto statement counts.
type statement struct {
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// bundles looks at the sigstore bundles that refer to the image.
func (c *check) bundles() (bool, error) {
	list, err := c.source.Referrers(c.ctx, c.subject, bundleType)
	if err != nil {
		return false, err
	}
	return c.each(list, func(desc ocispec.Descriptor) (bool, error) {
		m, err := c.manifest(desc)
		if err != nil {
			return false, err
		}
		return c.each(m.Layers, c.bundle)
	})
}

func (c *check) bundle(desc ocispec.Descriptor) (bool, error) {
	if desc.MediaType != bundleType {
		return false, nil
	}
	raw, err := c.read(desc)
	if err != nil {
		return false, err
	}
	var b bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		return false, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	message := preAuthEncoding(b.Envelope.PayloadType, b.Envelope.Payload)
	for i, s := range b.Envelope.Signatures {
		if i == maxSignatures {
			break
		}
		if signedBy(c.keys, message, s.Sig) {
			return c.states(b)
		}
	}
	return false, nil
}

// states tells whether a statement, whose signature is good, is the signing of the image.
func (c *check) states(b bundle) (bool, error) {
	if b.Envelope.PayloadType != inTotoType {
		return false, nil
	}
	var s statement
	if err := json.Unmarshal(b.Envelope.Payload, &s); err != nil {
		return false, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if s.PredicateType != signPredicate {
		return false, nil
	}
	for _, subject := range s.Subject {
		if subject.Digest[c.subject.Algorithm().String()] == c.subject.Encoded() {
			return true, nil
		}
	}
	return false, nil
}

// preAuthEncoding is what is signed of an envelope (DSSE, protocol.md: PAE).
func preAuthEncoding(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}
