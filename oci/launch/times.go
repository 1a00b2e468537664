package launch

import (
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Times says when a launch did what, in nanoseconds of CLOCK_MONOTONIC.
type Times struct {
	Ordered int64 // StartTimed was called
	Begun   int64 // the child's first instruction
	Done    int64 // Wait knew of its execve, or of its end
	// Steps are when they began; 0: it was skipped, or is beyond the first MaxTimed. A step lasted until the next one that
	// has a time began, the last until Done.
	Steps []int64
}

// MaxTimed is how many steps of a program get a time.
const MaxTimed = sheetWords - 2

// Now reads the clock of Times.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // never: clock_gettime(2)
	}
	return ts.Nano()
}

// counter reads the processor's counter: the only clock that a child without a Go runtime has for some nanoseconds. A
// system call for the time takes as long as many a step.
func counter() uint64

// sheets are pages that this process shares with its zygotes, and so with their children: a child writes down on one of its own
// when it began which step. An execve leaves them behind.
//
//	word 0     the child's first instruction
//	word 1+i   the beginning of step i
type sheets struct {
	mu   sync.Mutex
	mem  []byte
	free []int // the one that was used last is the last: few pages are ever touched
}

const (
	sheetWords = 1024
	sheetBytes = sheetWords * 8
	sheetCount = 32 // for launches that are under way; those beyond are not timed
)

// make maps them, before the first zygote. It may be called again.
func (s *sheets) make() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem != nil {
		return nil
	}
	mem, err := unix.Mmap(-1, 0, sheetCount*sheetBytes+arrivalCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map what children note times on: %w", err)
	}
	s.mem = mem
	for i := range sheetCount {
		s.free = append(s.free, sheetCount-1-i)
	}
	return nil
}

func (s *sheets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem != nil {
		_ = unix.Munmap(s.mem) // what was mapped can be unmapped
	}
	s.mem, s.free = nil, nil
}

// take returns an empty sheet for a program of so many steps, nil when all are in use.
func (s *sheets) take(steps int) *sheet {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return nil
	}
	n := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&s.mem[n*sheetBytes])), sheetWords)[:1+min(steps, MaxTimed)]
	clear(words)
	return &sheet{from: s, number: n, words: words, ordered: mark()}
}

// sheet is what one child notes its times on. The nil one is none.
type sheet struct {
	from    *sheets
	number  int
	words   []uint64
	ordered reading
}

// address is where a child finds it; 0: none.
func (s *sheet) address() uintptr {
	if s == nil {
		return 0
	}
	return uintptr(unsafe.Pointer(&s.words[0]))
}

// count is for how many steps it has room.
func (s *sheet) count() uintptr {
	if s == nil {
		return 0
	}
	return uintptr(len(s.words) - 1)
}

// release gives the sheet back. The child must be past its execve, or dead.
func (s *sheet) release() {
	if s == nil {
		return
	}
	s.from.mu.Lock()
	defer s.from.mu.Unlock()
	if s.from.mem != nil {
		s.from.free = append(s.from.free, s.number)
	}
}

// times reads what was noted.
func (s *sheet) times(done reading) *Times {
	if s == nil {
		return nil
	}
	scale := s.ordered.scale(done)
	t := &Times{Ordered: s.ordered.clock, Done: done.clock, Begun: scale(s.words[0]), Steps: make([]int64, len(s.words)-1)}
	for i, word := range s.words[1:] {
		t.Steps[i] = scale(word)
	}
	return t
}

// reading is both clocks at one moment.
type reading struct {
	counter uint64
	clock   int64
}

// mark reads both clocks. What comes between the two readings (an interrupt, another process) would bend the scale: then
// it reads again.
func mark() reading {
	const close = 3 * time.Microsecond
	var best reading
	for try, least := 0, int64(0); try < 3; try++ {
		before := Now()
		c := counter()
		after := Now()
		if try == 0 || after-before < least {
			best, least = reading{c, before + (after-before)/2}, after-before
		}
		if least < int64(close) {
			break
		}
	}
	return best
}

// scale returns what turns counter readings between two marks into the clock's. They may come from another processor, whose
// counter is a little off: nothing is before the first or after the second.
func (r reading) scale(to reading) func(uint64) int64 {
	span, ticks := to.clock-r.clock, to.counter-r.counter
	return func(c uint64) int64 {
		switch passed := int64(c - r.counter); {
		case c == 0:
			return 0
		case passed <= 0 || ticks == 0:
			return r.clock
		case uint64(passed) >= ticks:
			return to.clock
		default:
			return r.clock + int64(float64(passed)/float64(ticks)*float64(span))
		}
	}
}
