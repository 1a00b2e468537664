// Package spec holds what clients ask of pods and containers (Pod, Container),
// checks it (Validate), and builds the OCI runtime-spec Spec from it (Build).
//
// Everything in it is pure: values in, values out. It opens nothing and knows no
// other package of berth; what must be read of the host or of an image comes in
// as values (hostdev.Lookup's devices) or readers (ResolveUser's passwd). It must
// not learn of CRI's protobuf, which package cri translates, nor of descriptors,
// processes and cgroups, which belong to oci.
//
// The way of a container through it:
//
//	Container.Validate ─ every field by its own rules, *FieldError names CRI's field
//	ResolveUser        ─ passwd and group of the image → User
//	Build              ─ Input → specs.Spec
//	ExecProcess        ─ the same Spec → the process of an exec
//	Resources.Linux    ─ CRI's limits → OCI's, also for an update
//	StopSignal         ─ number or image's name → number
//
// Invariants: what Validate passes, Build accepts (but for a missing command); a
// Spec depends on nothing but the Input; the Spec shares no memory with the
// configuration that a caller could change later, but for Seccomp.
//
// The structs are what the records on disk hold, as JSON: a field's meaning and
// its JSON name never change.
package spec
