// Package manifest reads what describes an image: index, manifest and configuration, of OCI's and Docker's (schema 2) media types.
//
// Duty: [Read] goes from the descriptor that a name resolved to, to the one image in it that suits the node, and says what layers to
// fetch and what they must come out as. It checks all that can be checked before a layer is there: every document's size and digest against the
// descriptor that led to it, the number of layers against the number of diff-IDs, every digest's form.
//
// Not its concern: where documents come from (its caller's [Blobs]: a registry, an archive) and what happens to layers.
//
//	descriptor ─▶ index ─▶ (index …) ─▶ manifest ─▶ configuration ─▶ Image
//	              by platform, best first            diff-IDs ─▶ chain IDs
//
// Everything it reads was written by others. Documents are bounded in size, indexes in depth.
package manifest
