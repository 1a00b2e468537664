package signature

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// shelf is a repository.
type shelf struct {
	tags      map[string]ocispec.Descriptor
	referrers []ocispec.Descriptor
	blobs     map[digest.Digest][]byte
	err       error
}

func (s *shelf) Tag(_ context.Context, tag string) (ocispec.Descriptor, bool, error) {
	desc, found := s.tags[tag]
	return desc, found, s.err
}

func (s *shelf) Referrers(context.Context, digest.Digest, string) ([]ocispec.Descriptor, error) {
	return s.referrers, s.err
}

func (s *shelf) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.blobs[desc.Digest])), s.err
}

func (s *shelf) put(mediaType string, content any) ocispec.Descriptor {
	raw, is := content.([]byte)
	if !is {
		raw, _ = json.Marshal(content)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	s.blobs[desc.Digest] = raw
	return desc
}

func newShelf() *shelf {
	return &shelf{tags: map[string]ocispec.Descriptor{}, blobs: map[digest.Digest][]byte{}}
}

func sign(t testing.TB, key crypto.Signer, message []byte) []byte {
	t.Helper()
	var sig []byte
	var err error
	if _, is := key.(ed25519.PrivateKey); is {
		sig, err = key.Sign(rand.Reader, message, crypto.Hash(0))
	} else {
		sum := sha256.Sum256(message)
		sig, err = key.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// cosigned puts a signature where cosign 2 does.
func (s *shelf) cosigned(t testing.TB, key crypto.Signer, subject digest.Digest, payload string) {
	t.Helper()
	layer := s.put(simpleSigningType, []byte(payload))
	layer.Annotations = map[string]string{signatureAnnotation: base64.StdEncoding.EncodeToString(sign(t, key, []byte(payload)))}
	tag := strings.Replace(subject.String(), ":", "-", 1) + ".sig"
	var m ocispec.Manifest
	if old, found := s.tags[tag]; found {
		if err := json.Unmarshal(s.blobs[old.Digest], &m); err != nil {
			t.Fatal(err)
		}
	}
	m.Layers = append(m.Layers, layer)
	s.tags[tag] = s.put(ocispec.MediaTypeImageManifest, m)
}

func payloadFor(subject digest.Digest) string {
	return fmt.Sprintf(`{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":%q},"type":%q},"optional":null}`, subject, cosignType)
}

// bundled puts a signature where cosign 3 does.
func (s *shelf) bundled(t testing.TB, key crypto.Signer, subject digest.Digest, predicate string) {
	t.Helper()
	payload := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q}`, subject.Encoded(), predicate)
	sig := sign(t, key, preAuthEncoding(inTotoType, payload))
	layer := s.put(bundleType, map[string]any{"mediaType": bundleType, "dsseEnvelope": map[string]any{
		"payload": payload, "payloadType": inTotoType, "signatures": []map[string]any{{"sig": sig}}}})
	s.referrers = append(s.referrers, s.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Layers: []ocispec.Descriptor{layer}}))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyFile(t testing.TB, keys ...crypto.Signer) string {
	t.Helper()
	var text []byte
	for _, key := range keys {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	path := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func named(t testing.TB, s string) reference.Named {
	t.Helper()
	ref, err := reference.ParseDockerRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

var image = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("the image"), Size: 9}

func verifierOf(keys ...string) *Verifier {
	p := DefaultPolicy()
	p.Rules = []Rule{{Images: "example.com", Keys: keys}}
	return New(p)
}

func TestSignatures(t *testing.T) {
	mine, other := newKey(t), newKey(t)
	good := payloadFor(image.Digest)
	for test, given := range map[string]struct {
		put  func(*shelf)
		want string // "": accepted
	}{
		"none":                {func(*shelf) {}, "has no signature"},
		"by the key":          {func(s *shelf) { s.cosigned(t, mine, image.Digest, good) }, ""},
		"by another":          {func(s *shelf) { s.cosigned(t, other, image.Digest, good) }, "none of its signatures"},
		"by both":             {func(s *shelf) { s.cosigned(t, other, image.Digest, good); s.cosigned(t, mine, image.Digest, good) }, ""},
		"of another image":    {func(s *shelf) { s.cosigned(t, mine, image.Digest, payloadFor(digest.FromString("x"))) }, "none of its"},
		"of another type":     {func(s *shelf) { s.cosigned(t, mine, image.Digest, strings.Replace(good, "cosign", "other", 1)) }, "none of its"},
		"no JSON":             {func(s *shelf) { s.cosigned(t, mine, image.Digest, "{") }, "none of its"},
		"a bundle":            {func(s *shelf) { s.bundled(t, mine, image.Digest, signPredicate) }, ""},
		"a bundle by another": {func(s *shelf) { s.bundled(t, other, image.Digest, signPredicate) }, "none of its"},
		"a bundle of another": {func(s *shelf) { s.bundled(t, mine, digest.FromString("x"), signPredicate) }, "none of its"},
		"a statement":         {func(s *shelf) { s.bundled(t, mine, image.Digest, "https://slsa.dev/provenance/v1") }, "none of its"},
		"both forms": {func(s *shelf) {
			s.cosigned(t, other, image.Digest, good)
			s.bundled(t, mine, image.Digest, signPredicate)
		}, ""},
		"a changed document":      {func(s *shelf) { s.cosigned(t, mine, image.Digest, good); s.tamper() }, "none of its"},
		"an unreadable list":      {func(s *shelf) { s.unreadable(t) }, "none of its"},
		"and a good bundle":       {func(s *shelf) { s.unreadable(t); s.bundled(t, mine, image.Digest, signPredicate) }, ""},
		"more than anybody makes": {func(s *shelf) { s.flood(t, other) }, "more than 64"},
	} {
		t.Run(test, func(t *testing.T) {
			s := newShelf()
			given.put(s)
			err := verifierOf(keyFile(t, mine)).Verify(t.Context(), named(t, "example.com/app"), image, s)
			if given.want == "" && err != nil || given.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), given.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// tamper changes what is stored and not what it is called.
func (s *shelf) tamper() {
	for d, raw := range s.blobs {
		s.blobs[d] = bytes.Replace(raw, []byte(`"x"`), []byte(`"y"`), 1)
	}
}

// unreadable puts something else where cosign's manifest would be.
func (s *shelf) unreadable(t *testing.T) {
	t.Helper()
	s.tags[strings.Replace(image.Digest.String(), ":", "-", 1)+".sig"] = s.put(ocispec.MediaTypeImageManifest, []byte("0"))
}

func (s *shelf) flood(t *testing.T, key crypto.Signer) {
	for i := range maxSignatures + 1 {
		s.cosigned(t, key, image.Digest, fmt.Sprint(i))
	}
}

func TestKinds(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{p384, rsaKey, edKey} {
		s := newShelf()
		s.cosigned(t, key, image.Digest, payloadFor(image.Digest))
		v := verifierOf(keyFile(t, newKey(t), key)) // a file with two
		if err := v.Verify(t.Context(), named(t, "example.com/app"), image, s); err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
	sum := crypto.SHA384.New()
	sum.Write([]byte("m"))
	sig, err := p384.Sign(rand.Reader, sum.Sum(nil), crypto.SHA384)
	if err != nil || !verify(p384.Public(), []byte("m"), sig) {
		t.Errorf("P-384 with SHA-384: %v", err)
	}
}

func TestBadKeys(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "text": "hello", "private": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"torn": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := verifierOf(path).Verify(t.Context(), named(t, "example.com/app"), image, newShelf()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verifierOf("/none").Verify(t.Context(), named(t, "example.com/app"), image, newShelf()); !errors.Is(err, ErrRefused) {
		t.Errorf("absent: %v", err)
	}
}

// TestUnreachable: a registry that doesn't answer refuses nothing, and accepts nothing.
func TestUnreachable(t *testing.T) {
	s := newShelf()
	s.err = errors.New("no route")
	err := verifierOf(keyFile(t, newKey(t))).Verify(t.Context(), named(t, "example.com/app"), image, s)
	if !errors.Is(err, s.err) || errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestRules(t *testing.T) {
	p := Policy{Default: Reject, VerifierTimeout: "1s", Rules: []Rule{
		{Images: "example.com", Action: Accept}, {Images: "example.com/team", Action: Reject}, {Images: "example.com/team/app", Action: Accept},
		{Images: "docker.io/library", Action: Accept},
	}}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"example.com/a": true, "example.com/team/other:1": false, "example.com/team/app@" + image.Digest.String(): true,
		"example.com/team/app/sub": true, "example.com/teams": true, "example.com:5000/a": false, "busybox": true, "other/busybox": false, "quay.io/a": false} {
		if err := New(p).Verify(t.Context(), named(t, name), image, newShelf()); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for field, bad := range map[string]func(*Policy){
		"default":          func(p *Policy) { p.Default = "" },
		"verifier_dir":     func(p *Policy) { p.VerifierDir = "bin" },
		"verifier_timeout": func(p *Policy) { p.VerifierTimeout = "0s" },
		"images":           func(p *Policy) { p.Rules = []Rule{{Images: "https://example.com", Action: Accept}} },
		"action":           func(p *Policy) { p.Rules = []Rule{{Images: "example.com"}} },
		"keys":             func(p *Policy) { p.Rules = []Rule{{Images: "example.com", Keys: []string{"key.pub"}}} },
		"exclude":          func(p *Policy) { p.Rules = []Rule{{Images: "example.com", Keys: []string{"/k"}, Action: Accept}} },
	} {
		p := DefaultPolicy()
		bad(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	p := DefaultPolicy()
	p.VerifierDir, p.VerifierTimeout = dir, "500ms"
	verify := func() error { return New(p).Verify(t.Context(), named(t, "example.com/app:1"), image, newShelf()) }
	program := func(name, script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program("1-good", `[ "$2 $4" = "example.com/app:1 `+image.Digest.String()+`" ] && grep -q '"size":9'`)
	if err := verify(); err != nil {
		t.Errorf("accepted by all: %v", err)
	}
	program("2-bad", "echo I do not like it; exit 3")
	if err := verify(); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "2-bad") || !strings.Contains(err.Error(), "I do not like it") {
		t.Errorf("refused by one: %v", err)
	}
	program("2-bad", "exec sleep 10")
	if err := verify(); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "2-bad") {
		t.Errorf("one that hangs: %v", err)
	}
	p.VerifierDir = dir + "/none"
	if err := verify(); !errors.Is(err, ErrRefused) {
		t.Errorf("no directory: %v", err)
	}
}

func FuzzSignatures(f *testing.F) {
	mine, other := newKey(f), newKey(f)
	path := keyFile(f, mine)
	s := newShelf()
	s.cosigned(f, other, image.Digest, payloadFor(image.Digest))
	s.bundled(f, other, image.Digest, signPredicate)
	for _, raw := range s.blobs {
		f.Add(raw, raw)
	}
	f.Fuzz(func(t *testing.T, manifest, content []byte) {
		s := newShelf()
		s.tags[strings.Replace(image.Digest.String(), ":", "-", 1)+".sig"] = s.put(ocispec.MediaTypeImageManifest, manifest)
		s.put(bundleType, content)
		layer := s.put(bundleType, content)
		s.referrers = []ocispec.Descriptor{s.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Layers: []ocispec.Descriptor{layer}}),
			s.put(ocispec.MediaTypeImageManifest, manifest)}
		if err := verifierOf(path).Verify(t.Context(), named(t, "example.com/app"), image, s); !errors.Is(err, ErrRefused) {
			t.Errorf("accepted: %v", err)
		}
	})
}
