package copier

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/sandbox/keeper/journal"
	"golang.org/x/sys/unix"
)

// maxLag is how far a tap may be behind its stream. The journal keeps so much; whoever does not read
// faster is cut off, and neither the log nor the process waits for him.
const maxLag = 16 << 20

// ErrNoStream is what an Attach gets for a stream that has ended, or never was.
var ErrNoStream = errors.New("no such stream")

// tap passes what a stream brings on to somebody who looks on, through a pipe that he reads.
type tap struct {
	fd       int
	watch    uint64 // tells when the pipe takes more, or its reader is gone
	position int64  // of the next byte, in the journal
}

type attach struct {
	stream   int
	fd       int
	position int64
	done     func(int64, error)
}

// Attach passes the stream of that number (of those that Start got) on to a pipe, whose write end it takes
// over, from a position in the stream on: one that an earlier tap had come to, or 0, which is now. done is
// called once, with the position where it begins: a later one than asked for when the bytes between are not
// kept any more. The pipe is closed when the stream ends, or its reader stays behind by more than maxLag.
func (p *Copy) Attach(stream, fd int, position int64, done func(position int64, err error)) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		unix.Close(fd)
		done(0, ErrNoStream)
		return
	}
	p.attaching = append(p.attaching, attach{stream: stream, fd: fd, position: position, done: done})
	p.mu.Unlock()
	p.wake(doTaps)
}

// attach carries out what was asked for. It belongs to the turn.
func (p *Copy) attach() {
	p.mu.Lock()
	all := p.attaching
	p.attaching = nil
	p.mu.Unlock()
	for _, a := range all {
		position, err := p.add(a)
		if err != nil {
			unix.Close(a.fd)
		}
		a.done(position, err)
	}
}

func (p *Copy) add(a attach) (int64, error) {
	if a.stream < 0 || a.stream >= len(p.streams) {
		return 0, ErrNoStream
	}
	s := p.streams[a.stream]
	if s.ended || s.Journal == nil {
		return 0, ErrNoStream
	}
	t := &tap{fd: a.fd, position: a.position}
	if !s.Journal.Has(t.position) {
		t.position = s.Journal.End()
	}
	var err error
	// No event but the reader's end, which always is one (epoll_ctl(2)).
	if t.watch, err = p.copier.watch(a.fd, 0, func() { p.wake(doTaps) }); err != nil {
		return 0, err
	}
	s.taps = append(s.taps, t)
	return t.position, nil
}

// feed gives the taps of a stream what they have not got yet, and lets the journal give back the rest.
func (p *Copy) feed(s *Source) error {
	if len(s.taps) == 0 {
		return nil
	}
	end, floor := s.Journal.End(), int64(0)
	left := s.taps[:0]
	for _, t := range s.taps {
		if !t.fill(s.Journal.Journal, end) || end-t.position > maxLag {
			p.cut(t)
			continue
		}
		events := uint32(0)
		if t.position < end {
			events = unix.EPOLLOUT
		}
		if err := p.copier.control(unix.EPOLL_CTL_MOD, t.fd, t.watch, events); err != nil {
			p.cut(t)
			continue
		}
		if floor == 0 || t.position < floor {
			floor = t.position
		}
		left = append(left, t)
	}
	clear(s.taps[len(left):])
	s.taps = left
	return s.Journal.Keep(floor)
}

// fill moves bytes into the pipe as long as it takes them; false: its reader is gone. What it holds are the
// journal's own pages, which stay as they are when the journal gives them back.
func (t *tap) fill(journal int, end int64) bool {
	for t.position < end {
		from := t.position
		n, err := unix.Splice(journal, &from, t.fd, nil, int(min(end-t.position, maxLag)), unix.SPLICE_F_NONBLOCK)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return !readerGone(t.fd)
		case err != nil || n == 0:
			return false
		default:
			t.position += int64(n)
		}
	}
	return !readerGone(t.fd)
}

// readerGone says whether nobody reads the pipe any more (poll(2): POLLERR of a write end).
func readerGone(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLERR != 0
}

// cut ends a tap.
func (p *Copy) cut(t *tap) {
	p.copier.Unwatch(t.fd, t.watch)
	unix.Close(t.fd)
}

// endTaps gives the taps of a stream that has ended what is left for them.
func (p *Copy) endTaps(s *Source) {
	taps := s.taps
	s.taps = nil
	for _, t := range taps {
		p.copier.Unwatch(t.fd, t.watch)
		rest, err := restOf(s.Journal, t.position)
		if err != nil || len(rest) == 0 || unix.SetNonblock(t.fd, true) != nil {
			unix.Close(t.fd)
			continue
		}
		pipe := os.NewFile(uintptr(t.fd), "tap")
		go func() { // ends when the reader has it all, or is gone
			defer pipe.Close()
			_, _ = pipe.Write(rest) // an error: he is gone
		}()
	}
}

// restOf is what a journal has from a position on: maxLag at most.
func restOf(s *journal.Stream, position int64) ([]byte, error) {
	rest := make([]byte, s.End()-position)
	for n := 0; n < len(rest); {
		m, err := unix.Pread(s.Journal, rest[n:], position+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return nil, fmt.Errorf("read journal: %w", errors.Join(err, journal.ErrCorrupt))
		}
		n += m
	}
	return rest, nil
}
