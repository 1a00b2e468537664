package copier

import (
	"errors"
	"sync"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/journal"
	"golang.org/x/sys/unix"
)

// ErrClosed is what a Reopen gets that comes after the Copy's end.
var ErrClosed = errors.New("copying has ended")

// Pauses before a log that refused is tried again.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// What a turn is to do, besides the streams whose bits (1<<i) are set.
const (
	doFlush uint32 = 1 << (iota + 16) // write unfinished lines too
	doReopen
	doClose
	doRetry
	doTaps    // add those that were asked for, and give them what they have not got
	doStreams = 1<<16 - 1
)

// Source is a stream to copy, through Journal into the log if there is one; without a Journal it is read and
// thrown away, and can't be attached to. Its descriptors belong to the Copy.
type Source struct {
	Journal *journal.Stream
	FD      int // without Journal

	taps  []*tap
	pipe  bool
	watch uint64
	ended bool
}

func (s *Source) fd() int {
	if s.Journal != nil {
		return s.Journal.Source
	}
	return s.FD
}

// Copy is what is done for one process: its streams go into its log.
type Copy struct {
	copier *Copier
	name   string
	log    *journal.Log // nil: thrown away
	ended  func()       // called once, when all streams have ended

	// Only the turn touches these.
	streams []*Source
	pause   time.Duration
	open    int // streams that have not ended

	mu     sync.Mutex
	todo   uint32
	queued bool
	closed bool
	next   []reopen // in the order in which they came

	attaching []attach
}

type reopen struct {
	fd         int
	generation uint32
	done       func(error)
}

// Start begins to copy, and takes over the descriptors of streams and log in any case. ended is called
// once, when all streams have ended (and never after Close). name is for messages.
func (c *Copier) Start(name string, streams []*Source, log *journal.Log, ended func()) (*Copy, error) {
	p := &Copy{copier: c, name: name, log: log, ended: ended, streams: streams, open: len(streams), queued: true}
	var err error
	for i, s := range streams {
		if s.Journal == nil && err == nil {
			s.pipe, err = journal.Prepare(s.FD)
		}
		if err == nil {
			bit := uint32(1) << i
			s.watch, err = c.Watch(s.fd(), func() { p.wake(bit) })
		}
	}
	if err != nil {
		p.closeAll()
		return nil, err
	}
	p.mu.Lock()
	p.queued = false
	p.mu.Unlock()
	p.wake(doRetry) // a dead keeper's batch may be under way; and no stream at all is an end too
	return p, nil
}

// Reopen writes what is under way into the old file and goes on with fd, which it takes over. done is
// called once, with an error when the old log refuses; then the old one stays, and fd is closed. A file of
// an older generation than the present one's is closed, and no error.
func (p *Copy) Reopen(fd int, generation uint32, done func(error)) {
	p.mu.Lock()
	if p.closed || p.log == nil {
		p.mu.Unlock()
		unix.Close(fd)
		done(ErrClosed)
		return
	}
	p.next = append(p.next, reopen{fd: fd, generation: generation, done: done})
	p.mu.Unlock()
	p.wake(doReopen)
}

// Files are duplicates of what a Copy has, for somebody who may have to go on with it.
type Files struct {
	Names      []string // of the streams that have not ended
	Sources    []int
	Journals   []int
	Relays     []int // one each, when one of them is no pipe
	Log        int   // -1: none
	Generation uint32
}

// Files returns duplicates, the caller's to close, of what has not ended. names are those of the
// sources that Start got.
func (p *Copy) Files(names []string) (Files, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := Files{Log: -1}
	if p.closed {
		return f, nil
	}
	var errs []error
	dup := func(fd int) int {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		errs = append(errs, err)
		return n
	}
	if p.log != nil {
		f.Log, f.Generation = dup(p.log.FD()), p.log.Generation()
	}
	for i, s := range p.streams {
		if s.ended {
			continue
		}
		f.Names = append(f.Names, names[i])
		f.Sources = append(f.Sources, dup(s.fd()))
		if s.Journal != nil {
			f.Journals = append(f.Journals, dup(s.Journal.Journal))
		}
		if s.Journal != nil && s.Journal.Relay >= 0 {
			f.Relays = append(f.Relays, dup(s.Journal.Relay))
		}
	}
	return f, errors.Join(errs...)
}

// Flush has what the streams have now written, unfinished lines too.
func (p *Copy) Flush() { p.wake(doFlush) }

// Close ends the copying and closes all descriptors, once what the streams have now is in the log: a process
// may be dead and forgotten before a slow disk took its last words. A log that refuses is not waited for.
func (p *Copy) Close() { p.wake(doClose) }

func (p *Copy) wake(todo uint32) {
	p.mu.Lock()
	p.todo |= todo
	start := !p.queued && !p.closed
	p.queued = p.queued || start
	p.mu.Unlock()
	if start {
		p.copier.enqueue(p)
	}
}

// turn does what there is to do, and goes back to the queue when there is more.
func (p *Copy) turn(buf *journal.Buffers) {
	p.mu.Lock()
	todo := p.todo
	p.todo = 0
	p.mu.Unlock()
	if todo&doClose != 0 {
		p.ended = nil
		p.takeRest(buf)
		p.closeAll()
		return
	}
	again, err := p.run(todo, buf)
	if err != nil {
		p.park(again, err)
		again = 0
	} else if p.pause != 0 {
		p.pause = 0
		p.copier.stalled(p.name, nil)
	}
	p.mu.Lock()
	p.todo |= again
	p.queued = p.todo != 0
	queued := p.queued
	p.mu.Unlock()
	if queued {
		p.copier.enqueue(p)
	}
}

// restTurns bounds what is taken of streams whose other ends are still written to: more than a pipe holds
// (fs.pipe-max-size, 1 MiB by default).
const restTurns = 8

// takeRest copies what the streams have.
func (p *Copy) takeRest(buf *journal.Buffers) {
	if p.log == nil {
		return
	}
	todo := uint32(doStreams)
	for range restTurns {
		again, err := p.run(todo, buf)
		if err != nil {
			return
		}
		if todo = again; todo == 0 {
			break
		}
	}
	_, _ = p.run(doFlush, buf) // an error means that the log refuses
}

// run does the turn's work and returns what is to be done again; with an error: after a pause.
func (p *Copy) run(todo uint32, buf *journal.Buffers) (again uint32, err error) {
	if p.log != nil {
		err = p.log.Resume()
	}
	if todo&doReopen != 0 {
		p.reopen(err)
	}
	if err != nil {
		return todo &^ doReopen, err
	}
	if todo&doTaps != 0 {
		p.attach()
	}
	for i, s := range p.streams {
		bit := uint32(1) << i
		if !s.ended && todo&doTaps != 0 && s.Journal != nil {
			if err := p.feed(s); err != nil {
				return todo &^ doReopen, err
			}
		}
		if s.ended || todo&(bit|doFlush) == 0 {
			continue
		}
		more, err := p.copy(s, todo&doFlush != 0, buf)
		if err != nil {
			return todo &^ doReopen, err
		}
		if more {
			again |= bit
		} else if !s.ended && todo&bit != 0 {
			if err := p.copier.rearm(s.fd(), s.watch); err != nil {
				return todo &^ doReopen, err
			}
		}
	}
	if p.open == 0 && p.ended != nil {
		p.ended()
		p.ended = nil
	}
	return again, nil
}

// copy gives one stream its share of a turn.
func (p *Copy) copy(s *Source, flush bool, buf *journal.Buffers) (more bool, err error) {
	var eof bool
	if s.Journal == nil {
		more, eof, err = journal.Discard(s.FD, s.pipe, p.copier.null, buf)
	} else {
		more, eof, err = s.Journal.Take(buf)
		err = errors.Join(err, p.feed(s))
		if p.log == nil {
			err = errors.Join(err, s.Journal.Drop())
		} else {
			err = errors.Join(err, s.Journal.Write(p.log, buf, eof || flush))
		}
	}
	if err == nil && eof {
		p.end(s)
	}
	return more, err
}

func (p *Copy) end(s *Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.copier.Unwatch(s.fd(), s.watch)
	if s.Journal != nil {
		p.endTaps(s)
		s.Journal.Close()
	} else {
		unix.Close(s.FD)
	}
	s.ended = true
	p.open--
}

func (p *Copy) reopen(stalled error) {
	p.mu.Lock()
	all := p.next
	p.next = nil
	p.mu.Unlock()
	for _, next := range all {
		shut, err := next.fd, stalled
		p.mu.Lock()
		if err == nil && next.generation > p.log.Generation() {
			var old int
			if old, err = p.log.Switch(next.fd, next.generation); err == nil { // writes nothing: the turn did
				shut = old
			}
		}
		p.mu.Unlock()
		unix.Close(shut) // may take its time on a network file system
		next.done(err)
	}
}

// park has the turn repeated after a pause, longer each time.
func (p *Copy) park(todo uint32, err error) {
	if p.pause == 0 {
		p.copier.stalled(p.name, err)
	}
	p.pause = min(max(2*p.pause, firstPause), lastPause)
	time.AfterFunc(p.pause, func() { p.wake(todo | doRetry) })
}

func (p *Copy) closeAll() {
	p.mu.Lock()
	p.closed = true
	next, attaching := p.next, p.attaching
	p.next, p.attaching = nil, nil
	p.mu.Unlock()
	for _, a := range attaching {
		unix.Close(a.fd)
		a.done(0, ErrNoStream)
	}
	for _, s := range p.streams {
		if !s.ended {
			p.end(s)
		}
	}
	if p.log != nil {
		p.log.Close()
	}
	for _, r := range next {
		unix.Close(r.fd)
		r.done(ErrClosed)
	}
}
