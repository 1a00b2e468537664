// Package copier waits on the streams of all containers at once and copies those that have something
// into their logs. It knows streams, journals and logs, no process and no message.
//
//	epoll (one for all, itself in Go's poller) ──▶ Copy.wake ──▶ queue, first in first out
//	                                                               │ up to maxWorkers goroutines
//	                                                               ▼
//	                                              a turn: 256 KiB at most a stream, then
//	                                              more: back to the queue's end
//	                                              none: armed in epoll again (EPOLLONESHOT)
//	                                              end:  closed
//	                                              log refuses: parked, tried again after a pause
//
// Invariants:
//
//   - One worker at a time runs a Copy; it alone touches its descriptors. So the log has one batch under
//     way, and everything that others want of a Copy (reopen, flush, close) is a flag that its next
//     turn finds.
//   - A quiet stream costs no goroutine, no buffer and no journal page.
//   - A flood gets one turn for each turn of the others; a disk that blocks or fails costs others nothing
//     but one of the workers.
package copier
