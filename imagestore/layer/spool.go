package layer

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// spoolAhead is how many blocks are written by one call: a disk is given a megabyte at a time.
const spoolAhead = 8

// spool writes a stream to a file as it passes, without copying it, and lets what isn't looked at be passed over.
type spool struct {
	from     *conveyor
	fd       int
	at       int64 // in the file, of the first of batch
	batch    []block
	unread   []byte // of the last of batch
	pos      int64  // in the stream
	progress func()
}

// newSpool writes to a file that is there, past the page cache where the file system lets it: a pull shall not push out what is in use.
func newSpool(path string, from *conveyor, progress func()) (*spool, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err == unix.EINVAL {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &spool{from: from, fd: fd, at: erofs.HeaderSize, progress: progress}, nil
}

func (s *spool) close() {
	s.drop()
	unix.Close(s.fd)
}

// Read is for the tar's headers. Blocks go to the file when the next ones are needed.
func (s *spool) Read(p []byte) (int, error) {
	if err := s.advance(); err != nil {
		return 0, err
	}
	n := copy(p, s.unread)
	s.pass(n)
	return n, nil
}

// Seek goes forward only: it is how archive/tar passes over contents (io.Seeker of its reader).
func (s *spool) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 {
		return 0, errors.ErrUnsupported
	}
	for offset > 0 {
		if err := s.advance(); err == io.EOF {
			return 0, io.ErrUnexpectedEOF
		} else if err != nil {
			return 0, err
		}
		n := min(offset, int64(len(s.unread)))
		s.pass(int(n))
		offset -= n
	}
	return s.pos, nil
}

func (s *spool) pass(n int) {
	s.unread = s.unread[n:]
	s.pos += int64(n)
}

// advance sees to it that there is something unread, unless the stream has ended.
func (s *spool) advance() error {
	for len(s.unread) == 0 {
		if len(s.batch) == spoolAhead {
			if err := s.flush(); err != nil {
				return err
			}
		}
		b, err := s.from.next()
		if err != nil {
			return err
		}
		s.progress()
		s.batch, s.unread = append(s.batch, b), b.bytes()
	}
	return nil
}

// drain writes the rest of the stream.
func (s *spool) drain() error {
	for {
		s.pass(len(s.unread))
		if err := s.advance(); err == io.EOF {
			return s.flush()
		} else if err != nil {
			return err
		}
	}
}

// flush writes what is gathered. Only a stream's last block is shorter than the others; it is filled up with zeros.
func (s *spool) flush() error {
	defer s.drop()
	parts := make([][]byte, len(s.batch))
	for i, b := range s.batch {
		whole := (b.n + diskBlock - 1) / diskBlock * diskBlock
		clear(b.mem[b.n:whole])
		parts[i] = b.mem[:whole]
	}
	for len(parts) > 0 {
		n, err := unix.Pwritev(s.fd, parts, s.at)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EINVAL && s.isDirect():
			// A disk whose blocks are larger, or a file system that has an opinion of its own.
			if _, err := unix.FcntlInt(uintptr(s.fd), unix.F_SETFL, 0); err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("write: %w", err)
		case n == 0:
			return fmt.Errorf("write: %w", io.ErrShortWrite)
		}
		s.at += int64(n)
		parts = without(parts, n)
	}
	return nil
}

// without leaves out the first n bytes.
func without(parts [][]byte, n int) [][]byte {
	for len(parts) > 0 && n >= len(parts[0]) {
		n -= len(parts[0])
		parts = parts[1:]
	}
	if n > 0 {
		parts[0] = parts[0][n:]
	}
	return parts
}

// drop gives the blocks back.
func (s *spool) drop() {
	for _, b := range s.batch {
		b.free()
	}
	s.batch, s.unread = s.batch[:0], nil
}

// isDirect tells whether the file is written past the page cache (open(2), O_DIRECT).
func (s *spool) isDirect() bool {
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_DIRECT != 0
}
