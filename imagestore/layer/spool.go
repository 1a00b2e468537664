package layer

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/imagestore/erofs"
	"github.com/berth-runtime/berth/imagestore/fault"
)

// spoolAhead is how many blocks are written by one call, while as many are gathered.
const spoolAhead = 4

// spool writes a stream to a file as it passes, without copying it, and lets what isn't looked at be passed over.
type spool struct {
	from     *conveyor
	fd       int
	at       int64 // in the file, of the first of batch
	batch    []block
	unread   []byte // of the last of batch
	pos      int64  // in the stream
	progress func()
	writing  chan error // of the batch before; nil: there is none
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
	_ = s.settle() // drain has said what there was to say
	free(s.batch)
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
			return errors.Join(s.flush(), s.settle())
		} else if err != nil {
			return err
		}
	}
}

// flush has what is gathered written, while the next is gathered. Only a stream's last block is shorter than the others; it is filled up with zeros.
func (s *spool) flush() error {
	if err := s.settle(); err != nil {
		return err
	}
	batch, at := s.batch, s.at
	s.batch, s.unread = nil, nil
	for _, b := range batch {
		s.at += int64(whole(b))
	}
	s.writing = make(chan error, 1)
	go func(done chan<- error) { // ends with its write
		err := fault.Guard(func() error { return s.write(batch, at) })
		free(batch)
		done <- err
	}(s.writing)
	return nil
}

// settle waits for what is being written.
func (s *spool) settle() error {
	if s.writing == nil {
		return nil
	}
	err := <-s.writing
	s.writing = nil
	return err
}

// whole is how long a block is on the disk.
func whole(b block) int { return (b.n + diskBlock - 1) / diskBlock * diskBlock }

func free(batch []block) {
	for _, b := range batch {
		b.free()
	}
}

func (s *spool) write(batch []block, at int64) error {
	parts := make([][]byte, len(batch))
	for i, b := range batch {
		clear(b.mem[b.n:whole(b)])
		parts[i] = b.mem[:whole(b)]
	}
	for len(parts) > 0 {
		n, err := unix.Pwritev(s.fd, parts, at)
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
		at += int64(n)
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

// isDirect tells whether the file is written past the page cache (open(2), O_DIRECT).
func (s *spool) isDirect() bool {
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_DIRECT != 0
}
