// Package wire is the language of the daemon and its keeper: messages over a unix SOCK_SEQPACKET socket
// with descriptors by SCM_RIGHTS. format.go has the chart of the bytes, conn.go moves them. It knows
// nothing of what a message asks for.
//
// A conversation:
//
//	daemon                                   keeper
//	Hello{version, pid} ──────────────────▶
//	                    ◀────────────────── Hello{version, pid, refused}
//	                    ◀────────────────── Kept{record}, one for each key, with its descriptors
//	                    ◀────────────────── Listed
//	Launch, Adopt, Hold, Forget, Abort,
//	Reopen, Attach, Shutdown,
//	Ping: {id, record} ───────────────────▶
//	                    ◀────────────────── Started{id} with a pidfd, launches only
//	                    ◀────────────────── Done{id, result}, once for each request, in any order
//	                    ◀────────────────── Exit{record}, whenever a process ended
//
// Both ends run as the same user on one machine, so the format carries no more checks than it needs to
// never crash on hostile bytes, and never to leak a descriptor.
package wire
