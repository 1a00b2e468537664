package journal

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Log is a CRI log file that streams are copied into. It has one batch under way at most. Not for
// concurrent use: who copies a container's streams owns it.
type Log struct {
	fd         int
	generation uint32
	rest       []byte // what is left of a batch whose write failed; nil: none
	size       int64  // of the file before the batch under way
}

// NewLog takes over the descriptor of a regular file opened O_APPEND|O_WRONLY. Generations number the
// files that a container's log goes to, one after the other.
func NewLog(fd int, generation uint32) *Log { return &Log{fd: fd, generation: generation} }

// FD is the log's descriptor; it stays the Log's.
func (l *Log) FD() int { return l.fd }

// Generation is the present file's.
func (l *Log) Generation() uint32 { return l.generation }

// Close closes the file.
func (l *Log) Close() { unix.Close(l.fd) }

// Stalled says whether a write failed and its batch is still to be written through.
func (l *Log) Stalled() bool { return l.rest != nil }

// Resume tries to write the rest of a batch whose write failed. Until it returns nil, nothing else
// may be written.
func (l *Log) Resume() error {
	for len(l.rest) > 0 {
		n, err := unix.Write(l.fd, l.rest)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("write log: %w", err)
		}
		if n > 0 {
			l.rest = l.rest[n:]
		}
	}
	l.rest = nil
	return nil
}

// Switch writes what is under way into the old file and goes on with a new one, which it takes over.
// It returns the old one, which is the caller's to close. On an error the old file stays the log, and
// the new one the caller's.
func (l *Log) Switch(fd int, generation uint32) (old int, err error) {
	if err := l.Resume(); err != nil {
		return -1, err
	}
	old = l.fd
	l.fd, l.generation = fd, generation
	return old, nil
}

// note reads the file's size before a batch.
func (l *Log) note() error {
	size, err := fileSize(l.fd)
	l.size = size
	return err
}

// write writes a batch's output. What it could not write stays for Resume.
func (l *Log) write(out []byte) error {
	l.rest = out
	err := l.Resume()
	if err != nil {
		l.rest = append([]byte(nil), l.rest...) // out is borrowed
	}
	return err
}

// Recover finds out how much of the batch in the stream's header got into the log, and leaves the rest
// for Resume. It says whether there is one.
func (l *Log) Recover(s *Stream) (bool, error) {
	h := s.found
	if h.length == 0 || h.generation != l.generation {
		return false, nil
	}
	size, err := fileSize(l.fd)
	if err != nil {
		return false, err
	}
	written := size - h.logSize
	if written < 0 || written >= int64(h.output) {
		return false, nil // through; or shortened by somebody: doc.go
	}
	raw := make([]byte, h.length)
	if err := preadFull(s.Journal, raw, h.start); err != nil {
		return false, err
	}
	out := s.format(h, raw)
	if len(out) != h.output {
		return false, fmt.Errorf("%w: batch of %d bytes formats to %d, not %d", ErrCorrupt, h.length, len(out), h.output)
	}
	l.rest = out[written:]
	return true, nil
}

func fileSize(fd int) (int64, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstat(fd, &st)
		if err == nil {
			return st.Size, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("read log's size: %w", err)
		}
	}
}

func preadFull(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("%w: it ends at %d", ErrCorrupt, off)
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
