package signature

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"crypto"
)

// readKeys reads the public keys of files, several of which may be in one.
func readKeys(paths []string) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read key: %w", err)
		}
		found, err := parseKeys(raw)
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", path, err)
		}
		keys = append(keys, found...)
	}
	return keys, nil
}

func parseKeys(raw []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("PEM block %q: only PUBLIC KEY is one", block.Type)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		switch key.(type) {
		case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
			keys = append(keys, key)
		default:
			return nil, fmt.Errorf("key of type %T: only ECDSA, RSA and Ed25519 are possible", key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block in it")
	}
	return keys, nil
}

// signedBy tells whether sig is one of the message by one of the keys.
func signedBy(keys []crypto.PublicKey, message, sig []byte) bool {
	for _, key := range keys {
		if verify(key, message, sig) {
			return true
		}
	}
	return false
}

// verify takes the schemes that sigstore uses: ECDSA in ASN.1 and RSA with PKCS #1 v1.5, both over SHA-256 (cosign) or, as sigstore's bundles have
// it for larger curves, over the hash of the curve's size; Ed25519 over the message.
func verify(key crypto.PublicKey, message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(key, sum[:], sig) {
			return true
		}
		switch key.Curve.Params().BitSize {
		case 384:
			sum := sha512.Sum384(message)
			return ecdsa.VerifyASN1(key, sum[:], sig)
		case 521:
			sum := sha512.Sum512(message)
			return ecdsa.VerifyASN1(key, sum[:], sig)
		}
		return false
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, sig)
	}
	return false
}
