// Package sandbox is the life cycle of pods and containers, and the only room
// of berth that composes: it asks imagestore for a root file system, spec for
// an OCI Spec, oci for a launch program, keeper for a process, cni for an
// address, and keeps the record of what came of it.
//
//	RunPod           record → files, /dev/shm ∥ namespaces → network ∥ held by the keeper → pause? → record (commit)
//	CreateContainer  record → snapshot, root mounted, user ∥ cgroup → Spec → record (commit)
//	StartContainer   log → program → keeper.Launch → record
//	StopContainer    signal → grace → kill: one detached task a container
//	StopPod          interrupt → containers killed → network → descriptors
//
// It must not know CRI, protobuf or gRPC: what clients ask arrives as spec.Pod
// and spec.Container, what they see leaves as PodInfo and ContainerInfo.
//
// Invariants:
//
//   - A state is one field and moves by the tables of state.go.
//   - Reads (Pod, Pods, Container, Containers, Ready) load immutable snapshots.
//     They wait for no operation, no disk and no cgroup.
//   - Each pod has one turn: whoever sets up or tears down something of the pod has it.
//     A stop's grace period and execs don't need it.
//   - Work goes on when the caller who asked for it has left; who asks again with
//     the same identity joins it (task.go).
//   - Set-up is a transaction (undo.go). Teardown is computed from records, so
//     that it serves a rollback, a stop and the recovery alike, and each of its
//     steps succeeds when there is nothing left to do.
//   - The kernel is believed over the keeper, and the keeper over the records.
//
// On disk:
//
//	ROOT/pods/<pod>                      the pod's ledger: its record and its containers' (ledger.go)
//	STATE/pods/<pod>/resolv.conf hostname hosts    bound into its containers
//
// Records are written without fsync: what they describe doesn't survive a power
// loss either, and a torn one is recognised and cleaned; one that the disk
// does not give costs nothing, its pod is left alone until a next start. Pods
// are pinned at /run/netns/berth-<pod>, the one thing that shows in the node's
// mount table. The keeper holds descriptors under the keys "pod-<pod>", and
// processes under "pause-<pod>", the container's id and "exec-<random>".
package sandbox
