// Package server is the keeper: the process that is parent of every container's processes on the node.
// It launches what the daemon sends, copies streams into logs (package copier), reaps, and keeps what
// it was given until it is told to forget it. It decides nothing: it opens no path (but /proc/PID/stat
// of a process that it adopted), and knows no pod, no container and no image.
//
//	accept ──▶ session: one daemon at a time ──▶ requests ──▶ table: key → entry
//	                  ▲                                          │  process, copy, held descriptors
//	                  └── outbox: answers, exits ◀───────────────┤
//	launches: a goroutine each, blocked in Child.Wait            │
//	reaper: SIGCHLD, wait4 ──────────────────────────────────────┤
//	pidfds of processes that a dead keeper was parent of ────────┘
//
// An entry's process:
//
//	launching ──▶ running ──▶ exited ──▶ drained (streams at their end, or 500 ms later)
//	    │ step failed, aborted             │ exit sent; kept until Forget
//	    ▼                                  ▼ Oneshot: until sent
//	 forgotten                          forgotten
//
// Invariants:
//
//   - The table's lock is held for no system call that may block. What the daemon gets is queued.
//   - wait4 is called with the table's lock held, so a pid in the table is never another process's.
//   - A launch whose daemon is gone before its answer was queued is undone: its process is killed.
//   - A process is reaped once; who could not be reaped here is read from its pidfd (exit.go).
//   - What comes with a message is closed when the message can't be carried out.
package server
