package journal

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// take moves what is in the pipe into the journal.
func (b *bench) take(s *Stream) {
	b.t.Helper()
	if _, _, err := s.Take(b.buf); err != nil {
		b.t.Fatal(err)
	}
}

// at reads the journal.
func (b *bench) at(position int64, n int) string {
	b.t.Helper()
	p := make([]byte, n)
	if _, err := unix.Pread(b.journal, p, position); err != nil {
		b.t.Fatal(err)
	}
	return string(p)
}

// TestKeep holds bytes that are in the log already for somebody else.
func TestKeep(t *testing.T) {
	b := newBench(t)
	s, l := b.keeper(0)
	first := s.End()
	if first != Start || !s.Has(first) || s.Has(first+1) || s.Has(0) {
		t.Errorf("a fresh stream ends at %d", first)
	}
	if err := s.Keep(first); err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("y", 1023) + "\n"
	for range 40 {
		b.write(line)
		b.take(s)
		if err := s.Write(l, b.buf, false); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.logged()) < 40*1024 {
		t.Errorf("the log has %d bytes", len(b.logged()))
	}
	if !s.Has(first) || b.at(first+1024, 1024) != line {
		t.Error("what was to be kept is gone")
	}
	middle := first + 20*1024
	if err := s.Keep(middle); err != nil {
		t.Fatal(err)
	}
	if s.Has(first) || !s.Has(middle) || b.at(middle, 1024) != line {
		t.Errorf("from the middle on: has the first %v, the middle %v", s.Has(first), s.Has(middle))
	}
	if err := s.Keep(0); err != nil {
		t.Fatal(err)
	}
	if s.Has(middle) || b.pages() != 0 {
		t.Errorf("nobody wants it, and it has %d pages", b.pages())
	}
}

// TestKeepAtTheEnd costs nothing, and no byte that comes later.
func TestKeepAtTheEnd(t *testing.T) {
	b := newBench(t)
	s, l := b.keeper(0)
	b.write("line\n")
	b.take(s)
	if err := s.Write(l, b.buf, false); err != nil {
		t.Fatal(err)
	}
	end := s.End()
	if err := s.Keep(end); err != nil {
		t.Fatal(err)
	}
	if b.pages() != 0 {
		t.Errorf("%d pages are kept for nothing", b.pages())
	}
	b.write("more\n")
	b.take(s)
	if err := s.Write(l, b.buf, false); err != nil {
		t.Fatal(err)
	}
	if !s.Has(end) || b.at(end, 5) != "more\n" {
		t.Error("what came later is gone")
	}
}

// TestSuccessorHasWhatIsNotInTheLog is what an onlooker goes on from when the keeper
// died.
func TestSuccessorHasWhatIsNotInTheLog(t *testing.T) {
	b := newBench(t)
	s, l := b.keeper(0)
	b.write("in the log\nprompt ")
	b.take(s)
	if err := s.Write(l, b.buf, false); err != nil {
		t.Fatal(err)
	}
	next, _ := b.keeper(0)
	prompt := Start + int64(len("in the log\n"))
	if next.Has(Start) || !next.Has(prompt) || b.at(prompt, 7) != "prompt " || !next.Has(next.End()) {
		t.Errorf("it has the start: %v, the prompt: %v", next.Has(Start), next.Has(prompt))
	}
}

func TestDrop(t *testing.T) {
	b := newBench(t)
	s, _ := b.keeper(0)
	for range 3 {
		b.write(strings.Repeat("z", 5000))
		b.take(s)
		if err := s.Drop(); err != nil {
			t.Fatal(err)
		}
	}
	if b.pages() != 0 || s.End() != Start+15000 {
		t.Errorf("%d pages, end %d", b.pages(), s.End())
	}
}
