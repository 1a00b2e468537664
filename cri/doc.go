// Package cri is berth's door for kubelet and crictl: CRI v1 over gRPC.
//
// Its duty is translation, and nothing else. A request is decoded into the
// domain's own types (sandbox/spec, and plain arguments), one method of the
// sandbox or the image store is called, and what it returns is encoded:
//
//	protobuf ─ decode_*.go ─▶ spec.Pod, spec.Container ─▶ sandbox, imagestore
//	protobuf ◀─ encode_*.go ─ PodInfo, ContainerInfo, Image ◀──┘
//	gRPC code ◀─ status.go ── error ◀──────────────────────────┘
//
// decode and encode are pure functions. What a request may not contain at all
// (an enum value that CRI doesn't know, a message that must be there) is refused
// by decode; what it may contain but a node can't do is refused by
// spec.Validate, further down, so that every door has the same rules.
//
// What it must not know: how a pod is made, where anything lies on disk, which
// processes run. It keeps no state of its own. Nothing below it imports cri-api,
// and nothing stores protobuf.
//
// Invariants:
//
//   - Every field of CRI is mapped, or listed in the tests as ignored with a reason.
//   - Errors become gRPC codes in status.go alone. NotFound is said only of a pod,
//     container or image that really isn't there: kubelet takes it as "already gone".
//   - A request is never logged whole, because environments hold secrets: the log
//     has the method's name, how long it took and its error.
//   - Lists and statuses read snapshots; they wait for no operation, file or cgroup.
//   - A panic in one request ends that request (Internal, and the stack in the log),
//     not the node's runtime.
package cri
