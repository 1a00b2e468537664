// Package keeper is the daemon's side of the keeper: the one process on a node that is the parent of
// every container's processes, holds their stdio, writes their logs and reaps them. The keeper itself
// is package server, run by cmd/berth-keeper; a Client here starts it, talks to it, and replaces it
// when it dies.
//
//	daemon                                                keeper (one a state directory)
//	Connect ── lock, listen, execute a sealed memfd ───▶  berth-keeper STATEDIR
//	        ◀─ hello, what it keeps ───────────────────
//	Launch  ── program in a memfd, slots, streams ─────▶  clone3, walk, execve; copies streams to the log
//	        ◀─ started {pidfd} ── done {pid, pidfd} ───
//	Exits   ◀─ exit {status, time} ────────────────────   reaped, streams drained
//	Attach  ── key, stream, a pipe ────────────▶  copies what the stream brings into the pipe, too
//	Forget  ── key ────────────────────────────────────▶  drops record and descriptors
//
// The daemon holds a duplicate of every descriptor that the keeper holds, and the journals (package
// journal) that say how far each stream got into its log. So either may be killed at any instruction:
//
//   - The keeper dies: the Client sees the end of the connection, starts a new one and hands it
//     everything (adopt). Calls wait meanwhile; only a Launch under way fails, with ErrInterrupted,
//     its child killed.
//   - The keeper hangs: it is killed (hang.go).
//   - The daemon dies: the keeper goes on. The next Connect gets everything back (Kept).
//
// The client knows no pod and no container: a key is a string to it, a program a value with Marshal.
//
// On disk, below Config.Dir (0700):
//
//	keeper.sock   the keeper's socket: unix, SOCK_SEQPACKET, never abstract
//	keeper.log    what the keeper says, and its last words should it crash
//	pid           which process the keeper is
//	lock          flock held while a daemon connects, so that two don't start two keepers
package keeper
