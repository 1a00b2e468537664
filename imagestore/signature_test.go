package imagestore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-runtime/berth/imagestore/signature"
)

// signer makes what cosign does.
type signer struct {
	key  *ecdsa.PrivateKey
	path string // of the public key
}

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer{key, path}
}

func (s signer) sign(t testing.TB, message []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// tagged pushes a signature below the tag that cosign 2 uses.
func (s signer) tagged(t testing.TB, repository string, img v1.Image) {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	payload := fmt.Appendf(nil, `{"critical":{"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"}}`, digest)
	manifest, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer:       static.NewLayer(payload, "application/vnd.dev.cosign.simplesigning.v1+json"),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(s.sign(t, payload))},
	})
	if err != nil {
		t.Fatal(err)
	}
	push(t, repository+":"+strings.Replace(digest.String(), ":", "-", 1)+".sig", manifest)
}

// referring pushes a bundle that refers to the image, in the way of registries that don't know referrers.
func (s signer) referring(t testing.TB, repository string, img v1.Image) {
	t.Helper()
	const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	statement := fmt.Sprintf(`{"subject":[{"digest":{"sha256":%q}}],"predicateType":"https://sigstore.dev/cosign/sign/v1"}`, digest.Hex)
	sig := s.sign(t, fmt.Appendf(nil, "DSSEv1 28 application/vnd.in-toto+json %d %s", len(statement), statement))
	bundle := fmt.Appendf(nil, `{"mediaType":%q,"dsseEnvelope":{"payload":%q,"payloadType":"application/vnd.in-toto+json","signatures":[{"sig":%q}]}}`,
		bundleType, base64.StdEncoding.EncodeToString([]byte(statement)), base64.StdEncoding.EncodeToString(sig))
	manifest, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{Layer: static.NewLayer(bundle, bundleType)})
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: manifest,
		Descriptor: v1.Descriptor{ArtifactType: bundleType}})
	pushIndex(t, repository+":"+strings.Replace(digest.String(), ":", "-", 1), index)
}

func TestRootPullSigned(t *testing.T) {
	needRoot(t)
	host := serve(t, nil)
	mine, other := newSigner(t), newSigner(t)
	cfg := testConfig(t)
	cfg.Verification.Rules = []signature.Rule{{Images: host, Keys: []string{mine.path}}, {Images: ref(host, "free"), Action: signature.Accept}}
	s := openStore(t, t.TempDir(), cfg)
	img := imageOf(t, layerOf(t, f("a", "1")))
	for _, repository := range []string{"unsigned", "wrong", "tagged", "referring", "free"} {
		push(t, ref(host, repository), img)
	}
	other.tagged(t, ref(host, "wrong"), img)
	mine.tagged(t, ref(host, "tagged"), img)
	mine.referring(t, ref(host, "referring"), img)
	for _, refused := range []string{"unsigned", "wrong"} {
		_, err := s.Pull(t.Context(), ref(host, refused), nil)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), ref(host, refused)) {
			t.Errorf("%s: %v", refused, err)
		}
	}
	wantClean(t, s, 0)
	if len(s.Images()) != 0 {
		t.Error("a refused image is listed")
	}
	for _, accepted := range []string{"tagged", "referring", "free"} {
		mustPull(t, s, ref(host, accepted))
	}
}

// TestRootPullSignatureUnreachable: a registry that fails to say whether there is a signature is unavailable, and nothing is taken for unsigned.
func TestRootPullSignatureUnreachable(t *testing.T) {
	needRoot(t)
	mine := newSigner(t)
	broken := false
	host := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if broken && strings.HasSuffix(r.URL.Path, ".sig") {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	cfg := testConfig(t)
	cfg.Verification.Rules = []signature.Rule{{Images: host, Keys: []string{mine.path}}}
	s := openStore(t, t.TempDir(), cfg)
	img := imageOf(t, layerOf(t, f("a", "1")))
	push(t, ref(host, "app"), img)
	mine.tagged(t, ref(host, "app"), img)
	broken = true
	if _, err := s.Pull(t.Context(), ref(host, "app"), nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	broken = false
	mustPull(t, s, ref(host, "app"))
}
