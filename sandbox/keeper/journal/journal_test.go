package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type bench struct {
	t       *testing.T
	r, w    int
	journal int
	log     string
	buf     *Buffers
}

func newBench(t *testing.T) *bench {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	j, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, r: p[0], w: p[1], journal: j, log: filepath.Join(t.TempDir(), "0.log"), buf: NewBuffers()}
	t.Cleanup(func() { unix.Close(b.r); unix.Close(b.w); unix.Close(b.journal) })
	return b
}

func (b *bench) write(s string) {
	b.t.Helper()
	if _, err := unix.Write(b.w, []byte(s)); err != nil {
		b.t.Fatal(err)
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// keeper returns what a keeper has of the stream: duplicates of everything.
func (b *bench) keeper(maxLine int) (*Stream, *Log) {
	b.t.Helper()
	s, err := NewStream("stdout", Descriptors{dup(b.t, b.r), dup(b.t, b.journal), -1}, maxLine)
	if err != nil {
		b.t.Fatal(err)
	}
	fd, err := unix.Open(b.log, unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	l := NewLog(fd, 0)
	b.t.Cleanup(func() { s.Close(); l.Close() })
	return s, l
}

func (b *bench) logged() []byte {
	b.t.Helper()
	log, err := os.ReadFile(b.log)
	if err != nil {
		b.t.Fatal(err)
	}
	return log
}

func (b *bench) pages() int64 {
	b.t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(b.journal, &st); err != nil {
		b.t.Fatal(err)
	}
	return st.Blocks * 512 / 4096
}

func TestStreamCopies(t *testing.T) {
	b := newBench(t)
	s, l := b.keeper(0)
	var want string
	for i := range 500 {
		text := strings.Repeat(fmt.Sprintf("line %d ", i), i%40)
		want += text + "\n"
		b.write(text)
		step(t, s, l, b.buf)
		b.write("\n")
		step(t, s, l, b.buf)
		if n := b.pages(); n != 0 {
			t.Fatalf("line %d: a quiet journal has %d pages", i, n)
		}
	}
	b.write("unfinished")
	step(t, s, l, b.buf)
	if got := unformat(t, b.logged()); string(got) != want {
		t.Fatalf("log has %d bytes, want %d", len(got), len(want))
	}
	unix.Close(b.w)
	b.w = -1
	if more, eof, err := s.Take(b.buf); more || !eof || err != nil {
		t.Fatalf("at the end: more %v, eof %v, %v", more, eof, err)
	}
	if err := s.Write(l, b.buf, true); err != nil {
		t.Fatal(err)
	}
	if log := b.logged(); !bytes.HasSuffix(log, []byte(" stdout P unfinished\n")) {
		t.Errorf("log ends with %q", log[len(log)-60:])
	}
	if n := b.pages(); n != 0 {
		t.Errorf("the journal has %d pages at the end", n)
	}
}

func step(t *testing.T, s *Stream, l *Log, buf *Buffers) {
	t.Helper()
	if _, _, err := s.Take(buf); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(l, buf, false); err != nil {
		t.Fatal(err)
	}
}

// A keeper dies with its batch written up to each possible byte; the next one completes it.
func TestRecoverAtEachByteOfABatch(t *testing.T) {
	raw := "first\n" + strings.Repeat("x", 50) + "\n\nlast line unfin"
	for cut := 0; ; cut++ {
		b := newBench(t)
		s, l := b.keeper(20)
		b.write("before\n")
		step(t, s, l, b.buf)
		b.write(raw)
		if _, _, err := s.Take(b.buf); err != nil {
			t.Fatal(err)
		}
		full := interruptedWrite(t, s, l, cut)
		b.write("ished\n")

		s, l = b.keeper(20)
		if unfinished, err := l.Recover(s); err != nil || unfinished != (cut < full) {
			t.Fatalf("cut at %d of %d: recover says %v, %v", cut, full, unfinished, err)
		}
		if err := l.Resume(); err != nil {
			t.Fatal(err)
		}
		step(t, s, l, b.buf)
		if got := unformat(t, b.logged()); string(got) != "before\n"+raw+"ished\n" {
			t.Fatalf("cut at %d: log has %q", cut, got)
		}
		if cut == full {
			return
		}
	}
}

// interruptedWrite does what Write does for a batch, but writes only cut bytes of the output.
func interruptedWrite(t *testing.T, s *Stream, l *Log, cut int) int {
	t.Helper()
	raw := make([]byte, s.end-s.done)
	if err := preadFull(s.Journal, raw, s.done); err != nil {
		t.Fatal(err)
	}
	h := header{start: s.done, at: now(), generation: l.generation}
	s.found = h
	h.length = len(raw)
	s.fmt.setTime(time.Unix(0, h.at))
	out, taken := s.fmt.Format(make([]byte, 0, 4096), raw, false)
	if err := l.note(); err != nil {
		t.Fatal(err)
	}
	h.length, h.output, h.logSize = taken, len(out), l.size
	if err := s.note(h); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(l.fd, out[:cut]); err != nil {
		t.Fatal(err)
	}
	return len(out)
}

// Keepers follow one another at random moments between system calls.
func TestKeepersFollowEachOther(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := newBench(t)
	s, l := b.keeper(64)
	var want strings.Builder
	for i := range 2000 {
		text := fmt.Sprintf("%d %s\n", i, strings.Repeat("y", rnd.IntN(300)))
		want.WriteString(text)
		b.write(text)
		if rnd.IntN(2) == 0 {
			if _, _, err := s.Take(b.buf); err != nil {
				t.Fatal(err)
			}
		}
		switch rnd.IntN(4) {
		case 0:
			if err := s.Write(l, b.buf, false); err != nil {
				t.Fatal(err)
			}
		case 1:
			s.Close()
			l.Close()
			s, l = b.keeper(64)
			if _, err := l.Recover(s); err != nil {
				t.Fatal(err)
			}
			if err := l.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		if i%50 == 0 {
			step(t, s, l, b.buf)
		}
	}
	step(t, s, l, b.buf)
	if got := unformat(t, b.logged()); string(got) != want.String() {
		t.Fatalf("log has %d bytes, want %d", len(got), want.Len())
	}
}

func TestSwitchAfterAStall(t *testing.T) {
	b := newBench(t)
	s, l := b.keeper(0)
	good := l.fd
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.fd = full
	b.write("one\ntwo\n")
	if _, _, err := s.Take(b.buf); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(l, b.buf, false); err == nil || !l.Stalled() {
		t.Fatalf("write to a full disk: %v, stalled %v", err, l.Stalled())
	}
	if err := s.Write(l, b.buf, false); err == nil {
		t.Error("a stalled log took more")
	}
	if _, err := l.Switch(good, 1); err == nil || l.Generation() != 0 {
		t.Errorf("switched away from an unwritten batch: %v", err)
	}
	l.fd = good
	unix.Close(full)
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	next, err := unix.Open(b.log+".1", unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	old, err := l.Switch(next, 1)
	if err != nil || old != good {
		t.Fatalf("old file %d, want %d; %v", old, good, err)
	}
	unix.Close(old)
	b.write("three\n")
	step(t, s, l, b.buf)
	if got := unformat(t, b.logged()); string(got) != "one\ntwo\n" {
		t.Errorf("old log has %q", got)
	}
	b.log += ".1"
	if got := unformat(t, b.logged()); string(got) != "three\n" {
		t.Errorf("new log has %q", got)
	}
}

func TestNewStreamRefuses(t *testing.T) {
	b := newBench(t)
	for _, n := range []int{-1, MaxLine + 1} {
		if _, err := NewStream("stdout", Descriptors{b.r, b.journal, -1}, n); err == nil {
			t.Errorf("lines of %d bytes were accepted", n)
		}
	}
	if _, err := unix.Pwrite(b.journal, bytes.Repeat([]byte{7}, headerLen), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := NewStream("stdout", Descriptors{b.r, b.journal, -1}, 0); err == nil {
		t.Error("a header of garbage was accepted")
	}
	if _, err := NewStream("stdout", Descriptors{-1, b.journal, -1}, 0); err == nil {
		t.Error("a closed stream was accepted")
	}
}

func FuzzParseHeader(f *testing.F) {
	var b [headerLen]byte
	header{generation: 1, start: Start, length: 5, output: 50, at: 9, logSize: 7}.marshal(&b)
	f.Add(b[:], int64(Start+100))
	f.Fuzz(func(t *testing.T, b []byte, offset int64) {
		h, ok, err := parseHeader(b, offset)
		if ok && (err != nil || h.start < Start || h.length < 0 || h.start+int64(h.length) > offset) {
			t.Fatalf("%+v, %v", h, err)
		}
	})
}
