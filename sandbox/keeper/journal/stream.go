package journal

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// turnBytes is how much is taken from a stream in one turn: others want theirs.
const turnBytes = 256 << 10

// Descriptors are what a stream is read from, and what keeps its bytes when the reader is killed.
type Descriptors struct {
	Source  int
	Journal int // of Create
	Relay   int // of CreateRelay, for a source that is no pipe; -1: none
}

// Close closes all.
func (d Descriptors) Close() {
	unix.Close(d.Source)
	unix.Close(d.Journal)
	if d.Relay >= 0 {
		unix.Close(d.Relay)
	}
}

// Stream copies one pipe (or terminal, or socket) into a log through a journal. Not for concurrent use.
type Stream struct {
	Descriptors
	pipe  bool
	noted bool  // the journal has a header
	end   int64 // the journal's offset: all that was taken
	done  int64 // all before it is in the log, or in the batch under way
	holed int64 // all before it, header aside, was given back
	lost  int64 // what comes before it was given back, or may have been by a dead keeper
	keep  int64 // somebody else still reads what comes after; 0: nobody
	found header
	fmt   *Formatter
}

// NewStream takes over a stream's descriptors, which may be fresh or a dead keeper's: then Log.Recover tells
// what its batch under way lacks, and the stream goes on behind it. maxLine 0 means DefaultMaxLine. On an
// error the descriptors stay the caller's.
func NewStream(name string, d Descriptors, maxLine int) (*Stream, error) {
	if maxLine == 0 {
		maxLine = DefaultMaxLine
	}
	if maxLine < 0 || maxLine > MaxLine {
		return nil, fmt.Errorf("cut lines after %d bytes: %w", maxLine, unix.EINVAL)
	}
	pipe, err := Prepare(d.Source)
	if err != nil {
		return nil, err
	}
	h, noted, offset, err := readHeader(d.Journal)
	if err != nil {
		return nil, err
	}
	s := &Stream{Descriptors: d, pipe: pipe, noted: noted, end: offset, done: offset, found: h,
		fmt: NewFormatter(name, maxLine)}
	if noted {
		s.done = h.start + int64(h.length)
	}
	s.lost = s.done
	return s, nil
}

// Prepare says whether source is a pipe, which is read by splice. Anything else is made non-blocking.
func Prepare(source int) (pipe bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return false, fmt.Errorf("look at stream: %w", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFIFO {
		return true, nil
	}
	if err := unix.SetNonblock(source, true); err != nil {
		return false, fmt.Errorf("set stream non-blocking: %w", err)
	}
	return false, nil
}

// Generation returns that of the log which the journal found by NewStream was last written to; false
// when it doesn't say.
func (s *Stream) Generation() (uint32, bool) {
	return s.found.generation, s.noted && s.found.length > 0
}

// Take moves bytes from the stream into the journal until the stream has no more for now, or a turn's
// share is taken (more). At the stream's end eof is set.
func (s *Stream) Take(buf *Buffers) (more, eof bool, err error) {
	if !s.noted {
		if err := s.note(header{start: s.end}); err != nil {
			return false, false, err
		}
	}
	for taken := 0; taken < turnBytes; {
		n, err := s.move(buf, turnBytes-taken)
		switch {
		case err == unix.EAGAIN:
			return false, false, nil
		case err == unix.EINTR:
		case err == unix.EIO && !s.pipe: // a terminal whose other end is closed
			return false, true, nil
		case err != nil:
			return false, false, fmt.Errorf("read stream: %w", err)
		case n == 0:
			return false, true, nil
		}
		s.end += int64(n)
		taken += n
	}
	return true, false, nil
}

func (s *Stream) move(buf *Buffers, most int) (int, error) {
	switch {
	case s.pipe:
		return splice(s.Source, s.Journal, most)
	case s.Relay >= 0:
		return s.relay(most)
	}
	b := buf.raw[:min(most, cap(buf.raw))]
	n, err := unix.Read(s.Source, b)
	if err != nil || n == 0 {
		return 0, err
	}
	return unix.Write(s.Journal, b[:n])
}

// relay moves bytes of what is no pipe: splice wants one at an end. What is between the two calls stands in
// the relay, which outlives a killed keeper as the journal does; so it is emptied first.
func (s *Stream) relay(most int) (int, error) {
	if n, err := splice(s.Relay, s.Journal, most); err != unix.EAGAIN {
		return n, err
	}
	if n, err := splice(s.Source, s.Relay, most); err != nil || n == 0 {
		return 0, err
	}
	return splice(s.Relay, s.Journal, most)
}

// splice moves what is there, at most that many bytes, and waits for nothing.
func splice(from, to, most int) (int, error) {
	n, err := unix.Splice(from, nil, to, nil, most, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	return max(int(n), 0), err
}

// Write writes what was taken into the log, all but an unfinished line; with rest set that too, as an
// entry with tag P. After an error the log is stalled, or the journal is at the end of memory; both
// may pass: call Log.Resume, then Write again. Nothing is lost meanwhile.
func (s *Stream) Write(l *Log, buf *Buffers, rest bool) error {
	if l.Stalled() {
		return fmt.Errorf("write log: %w", unix.EAGAIN)
	}
	buf.fit(s.fmt)
	for s.done < s.end {
		raw := buf.raw[:min(s.end-s.done, int64(cap(buf.raw)))]
		if err := preadFull(s.Journal, raw, s.done); err != nil {
			return err
		}
		last := s.done+int64(len(raw)) == s.end
		h := header{generation: l.generation, start: s.done, at: now()}
		s.fmt.setTime(time.Unix(0, h.at))
		out, taken := s.fmt.Format(buf.out[:0], raw, rest && last)
		if taken == 0 {
			break
		}
		if err := l.note(); err != nil {
			return err
		}
		h.length, h.output, h.logSize = taken, len(out), l.size
		if err := s.note(h); err != nil {
			return err
		}
		s.done += int64(taken)
		if err := l.write(out); err != nil {
			return err
		}
	}
	return s.release()
}

// End is where the stream's next byte will stand in the journal.
func (s *Stream) End() int64 { return s.end }

// Has says whether the journal still has the stream's bytes from a position on.
func (s *Stream) Has(position int64) bool {
	return position >= max(s.lost, Start) && position <= s.end
}

// Keep has the journal keep its bytes from a position on for somebody who reads them there; 0: it gives
// back all that is in the log.
func (s *Stream) Keep(position int64) error {
	s.keep = position
	return s.release()
}

// Drop does in place of Write for a stream without a log.
func (s *Stream) Drop() error {
	s.done = s.end
	return s.release()
}

// release gives the journal's pages back, all but those of an unfinished line and its header.
func (s *Stream) release() error {
	from, to := int64(0), (s.end+Start-1)/Start*Start
	if s.done < s.end {
		from, to = max(s.holed, Start), s.done/Start*Start
	}
	if s.keep != 0 && s.keep < s.end {
		to = min(to, s.keep/Start*Start)
	}
	if to <= from {
		return nil
	}
	for {
		err := unix.Fallocate(s.Journal, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("release journal: %w", err)
		}
		s.noted, s.holed = s.noted && from != 0, to
		s.lost = max(s.lost, min(to, s.end))
		return nil
	}
}

func (s *Stream) note(h header) error {
	var b [headerLen]byte
	h.marshal(&b)
	for {
		_, err := unix.Pwrite(s.Journal, b[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("note batch: %w", err)
		}
		s.noted = true
		return nil
	}
}

// format formats a batch again, as its header says.
func (s *Stream) format(h header, raw []byte) []byte {
	s.fmt.setTime(time.Unix(0, h.at))
	out, taken := s.fmt.Format(make([]byte, 0, h.output), raw, true)
	if taken != len(raw) {
		return nil
	}
	return out
}

// Buffers are what a turn of copying needs; borrowed only while a stream has data.
type Buffers struct {
	raw, out []byte
}

// NewBuffers returns buffers; they grow when lines may be longer than a batch.
func NewBuffers() *Buffers {
	return &Buffers{raw: make([]byte, batchRaw), out: make([]byte, 0, batchOut)}
}

func (b *Buffers) fit(f *Formatter) {
	if cap(b.raw) <= f.maxLine {
		b.raw = make([]byte, f.maxLine+batchRaw)
	}
	if cap(b.out) < f.entryMax() {
		b.out = make([]byte, 0, f.entryMax()+batchOut)
	}
}

// Discard reads what a stream has and throws it away: the counterpart of Take for streams without a
// log. null is a descriptor of /dev/null, open for writing.
func Discard(source int, pipe bool, null int, buf *Buffers) (more, eof bool, err error) {
	for taken := 0; taken < turnBytes; {
		var n int
		if pipe {
			var m int64
			m, err = unix.Splice(source, nil, null, nil, turnBytes, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
			n = max(int(m), 0)
		} else {
			n, err = unix.Read(source, buf.raw)
		}
		switch {
		case err == unix.EAGAIN:
			return false, false, nil
		case err == unix.EINTR:
			continue
		case err == unix.EIO && !pipe, err == nil && n == 0:
			return false, true, nil
		case err != nil:
			return false, false, fmt.Errorf("read stream: %w", err)
		}
		taken += n
	}
	return true, false, nil
}
