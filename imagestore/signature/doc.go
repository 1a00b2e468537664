// Package signature decides whether an image may be used, by who signed it.
//
// Duty: [Verifier.Verify] finds the rule of the policy for an image's name and holds the manifest's digest, as the name resolved to it, against
// it: signatures by a public key, as cosign makes them, or the judgement of programs of the operator's.
//
// Two forms of signatures are read, both made by `cosign sign --key`:
//
//	repo:sha256-<hex>.sig                     a manifest whose layers are "simple signing" documents that name the digest, each
//	                                          with its signature in an annotation (cosign's SIGNATURE_SPEC.md)
//	referrers of the digest (or the tag       a sigstore bundle (v0.3): a DSSE envelope around an in-toto statement whose subject is
//	sha256-<hex>)                             the digest (cosign since 3.0)
//
// What is signed is content: a signature counts for the digest in whatever repository it is found, as with cosign. Transparency logs and
// certificates are not looked at; a verifier program can do that (its protocol is containerd's, of its image verifier plugins).
//
// Not its concern: registries (its caller's [Source]), and what is done with an image that is refused.
//
// All that it reads from a registry was written by others, and is bounded in size and number.
package signature
