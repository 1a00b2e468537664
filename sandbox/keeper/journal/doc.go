// Package journal makes the copying of a stream into a CRI log file proof against kill -9 at any
// instruction: no byte is lost, none is written twice. It knows files and bytes, no process, no message.
//
// Each stream has a journal, a memfd that daemon and keeper both hold. What was taken from the pipe and
// is not in the log yet stands in it:
//
//	0          4096                                                 file offset
//	+----------+- - - - - - - - -+------------------+----------------+
//	| header   | hole: given back| batch: raw bytes | not looked at  |
//	| (64 B)   | to the kernel   | being written    | yet            |
//	+----------+- - - - - - - - -+------------------+----------------+
//	                             ^ start            ^ start+length
//
// Three facts carry the proof:
//
//   - splice(2) without an offset moves bytes from the pipe to the memfd and the memfd's file offset
//     by as much, inside one system call, which a signal doesn't cut in between. The offset belongs to
//     the open file description, which the daemon's duplicate shares: it counts exactly what was ever
//     taken from the pipe, whoever died when.
//     What is no pipe (a terminal) is spliced into one first, the relay, which both hold as well: what
//     stands in it comes before what the terminal has.
//   - Before a batch is written to the log, one pwrite(2) puts into the header which bytes these are,
//     their time, how long the formatted output is, and how long the log was. What is formatted is a
//     pure function of header and raw bytes (Format).
//   - The keeper is the log's only writer, and has one batch a log under way. So a successor sees from
//     the log's size how much of the output got there, formats the batch again, and writes the rest.
//
// Everything in a journal that was written through is a hole (fallocate PUNCH_HOLE): a quiet stream's
// journal has no page, not even the header's. No header means: all bytes before the offset are in the log.
//
// A log file that something else shortened while a batch was under way, and the keeper killed before
// it was done, loses the rest of that batch: its size proves nothing any more.
package journal
