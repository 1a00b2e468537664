package copier

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/berth-runtime/berth/sandbox/keeper/journal"
	"golang.org/x/sys/unix"
)

// maxWorkers bounds the turns at a time: more than processors, for a turn may block on a slow disk.
const maxWorkers = 32

// Copier copies streams. Its methods may be called concurrently.
type Copier struct {
	epoll *os.File
	raw   syscall.RawConn
	null  int
	// stalled is told when a log refuses and when it takes again (err nil).
	stalled func(name string, err error)
	buffers sync.Pool

	mu      sync.Mutex
	watches map[uint64]func()
	last    uint64
	queue   []*Copy
	workers int
}

// New makes a copier; Run does its work. stalled is told when a log refuses and when it takes again
// (err nil); name is the Copy's.
func New(stalled func(name string, err error)) (*Copier, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // os.NewFile puts non-blocking files into Go's poller
		unix.Close(fd)
		return nil, fmt.Errorf("set epoll non-blocking: %w", err)
	}
	epoll := os.NewFile(uintptr(fd), "epoll")
	raw, err := epoll.SyscallConn()
	if err != nil {
		epoll.Close()
		return nil, fmt.Errorf("use epoll: %w", err)
	}
	null, err := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		epoll.Close()
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	return &Copier{
		epoll: epoll, raw: raw, null: null, stalled: stalled,
		buffers: sync.Pool{New: func() any { return journal.NewBuffers() }},
		watches: make(map[uint64]func()),
	}, nil
}

// Run waits for streams until Close, which makes it return os.ErrClosed. It holds no thread while it waits.
func (c *Copier) Run() error {
	events := make([]unix.EpollEvent, 64)
	for {
		var n int
		var werr error
		err := c.raw.Read(func(fd uintptr) bool {
			for werr = unix.EINTR; werr == unix.EINTR; {
				n, werr = unix.EpollWait(int(fd), events, 0)
			}
			return n != 0 || werr != nil
		})
		if err != nil { // RawConn's own name for it is not exported
			return fmt.Errorf("wait for streams: %w", os.ErrClosed)
		}
		if werr != nil {
			return fmt.Errorf("wait for streams: %w", werr)
		}
		for i := range events[:n] {
			c.mu.Lock()
			ready := c.watches[token(&events[i])]
			c.mu.Unlock()
			if ready != nil {
				ready()
			}
		}
	}
}

// Close ends Run. What is copied is closed by its owner.
func (c *Copier) Close() {
	c.epoll.Close()
	unix.Close(c.null)
}

// Watch calls ready once when fd is readable or at its end; ready must not block. Unwatch it before fd
// is closed.
func (c *Copier) Watch(fd int, ready func()) (uint64, error) {
	return c.watch(fd, incoming, ready)
}

// incoming are the events of a descriptor that is read.
const incoming = unix.EPOLLIN | unix.EPOLLRDHUP

func (c *Copier) watch(fd int, events uint32, ready func()) (uint64, error) {
	c.mu.Lock()
	c.last++
	id := c.last
	c.watches[id] = ready
	c.mu.Unlock()
	if err := c.control(unix.EPOLL_CTL_ADD, fd, id, events); err != nil {
		c.Unwatch(fd, id)
		return 0, err
	}
	return id, nil
}

// rearm lets the watch call ready once more.
func (c *Copier) rearm(fd int, id uint64) error {
	return c.control(unix.EPOLL_CTL_MOD, fd, id, incoming)
}

// Unwatch ends a watch. It may be called twice, and for id 0. A call to ready that is under way may
// still come.
func (c *Copier) Unwatch(fd int, id uint64) {
	c.mu.Lock()
	_, known := c.watches[id]
	delete(c.watches, id)
	c.mu.Unlock()
	if known {
		_ = c.control(unix.EPOLL_CTL_DEL, fd, id, 0) // ENOENT: it never was added
	}
}

func (c *Copier) control(op, fd int, id uint64, events uint32) error {
	ev := unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	var cerr error
	err := c.raw.Control(func(ep uintptr) { cerr = unix.EpollCtl(int(ep), op, fd, &ev) })
	if err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("watch stream: %w", err)
	}
	return nil
}

func token(ev *unix.EpollEvent) uint64 {
	return uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
}

// enqueue gives the Copy a turn after all those that wait already.
func (c *Copier) enqueue(p *Copy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, p)
	if c.workers < maxWorkers {
		c.workers++
		go c.work() // ends when the queue is empty
	}
}

func (c *Copier) dequeue() *Copy {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue = nil
		c.workers--
		return nil
	}
	p := c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	return p
}

func (c *Copier) work() {
	buf := c.buffers.Get().(*journal.Buffers)
	defer c.buffers.Put(buf)
	for p := c.dequeue(); p != nil; p = c.dequeue() {
		p.turn(buf)
	}
}
