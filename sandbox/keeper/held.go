package keeper

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// held is the daemon's duplicate of what the keeper keeps under a key: enough to hand it to another
// keeper. It belongs to the client's lock.
type held struct {
	process *heldProcess // nil: descriptors only
	holds   map[string]int
}

type heldProcess struct {
	pid        int
	pidfd      int
	oneshot    bool
	maxLine    int
	names      []string
	streams    []int
	journals   []int
	logs       []int // none, one, or (while one is reopened) old and new
	generation uint32
	reopening  chan struct{} // has room for one, who reopens
	ended      chan struct{} // closed when exit is known
	exit       *Exit
}

func newProcess() *heldProcess {
	return &heldProcess{pidfd: -1, reopening: make(chan struct{}, 1), ended: make(chan struct{})}
}

// record describes what is held, with duplicates of the descriptors, which are the caller's to close.
func (h *held) record(key string) (*wire.Record, []int, error) {
	r := &wire.Record{Key: key}
	var fds []int
	if p := h.process; p != nil {
		r.PID, r.HasPidFD, r.Oneshot = p.pid, true, p.oneshot
		r.Exit = wireExit(p.exit)
		fds = p.appendStreams(r, append(fds, p.pidfd))
	}
	fds = appendHolds(r, fds, h.holds)
	dups, err := dupAll(fds)
	return r, dups, err
}

// appendStreams adds streams and logs to a record and their descriptors to fds.
func (p *heldProcess) appendStreams(r *wire.Record, fds []int) []int {
	r.MaxLine, r.Generation = p.maxLine, p.generation
	r.Streams, r.Journals, r.Logs = p.names, len(p.journals) > 0, len(p.logs)
	fds = append(append(fds, p.streams...), p.journals...)
	return append(fds, p.logs...)
}

func appendHolds(r *wire.Record, fds []int, holds map[string]int) []int {
	for name, fd := range holds {
		r.Holds = append(r.Holds, name)
		fds = append(fds, fd)
	}
	return fds
}

// hold adds descriptors, in place of those of the same names.
func (h *held) hold(holds map[string]int) {
	if h.holds == nil && len(holds) > 0 {
		h.holds = make(map[string]int, len(holds))
	}
	for name, fd := range holds {
		if old, ok := h.holds[name]; ok {
			closeAll(old)
		}
		h.holds[name] = fd
	}
}

func (h *held) close() {
	if h.process != nil {
		h.process.close()
	}
	for _, fd := range h.holds {
		closeAll(fd)
	}
	h.holds = nil
}

func (p *heldProcess) close() {
	closeAll(p.pidfd)
	closeAll(p.streams...)
	closeAll(p.journals...)
	closeAll(p.logs...)
	p.pidfd, p.names, p.streams, p.journals, p.logs = -1, nil, nil, nil, nil
}

// takeOver holds what a keeper kept when the client connected, and lists it for the caller.
func (c *Client) takeOver(k keptMessage) error {
	r, fds := k.record, k.files
	take := func(n int) []int {
		v := fds[:n:n]
		fds = fds[n:]
		return v
	}
	h := &held{}
	if r.HasPidFD {
		p := newProcess()
		p.pid, p.pidfd, p.oneshot, p.maxLine, p.generation = r.PID, take(1)[0], r.Oneshot, r.MaxLine, r.Generation
		p.names, p.streams = r.Streams, take(len(r.Streams))
		if r.Journals {
			p.journals = take(len(r.Streams))
		}
		p.logs = take(r.Logs)
		h.process = p
	}
	holds := make(map[string]int, len(r.Holds))
	for i, fd := range take(len(r.Holds)) {
		holds[r.Holds[i]] = fd
	}
	h.hold(holds)
	c.held[r.Key] = h
	out, err := h.kept(r.Key)
	if err != nil {
		return err
	}
	if r.Exit != nil {
		exit := clientExit(r)
		out.Exit = &exit
		c.exited(r.Key, r)
	}
	c.kept = append(c.kept, out)
	return nil
}

// kept describes what is held to the client's caller, with files of its own.
func (h *held) kept(key string) (Kept, error) {
	out := Kept{Key: key, Files: make(map[string]*os.File)}
	var errs []error
	open := func(fd int, name string) *os.File {
		dups, err := dupAll([]int{fd})
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		return os.NewFile(uintptr(dups[0]), name)
	}
	if h.process != nil {
		out.PID, out.PidFD = h.process.pid, open(h.process.pidfd, "pidfd")
	}
	for name, fd := range h.holds {
		out.Files[name] = open(fd, name)
	}
	return out, errors.Join(errs...)
}

func (c *Client) closeHeld() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, h := range c.held {
		h.close()
		delete(c.held, key)
	}
}

func wireExit(e *Exit) *wire.Exit {
	if e == nil {
		return nil
	}
	return &wire.Exit{Status: e.Status, Known: e.Known, At: e.At}
}

func clientExit(r *wire.Record) Exit {
	return Exit{Key: r.Key, Status: r.Exit.Status, Known: r.Exit.Known, At: r.Exit.At}
}

// dupFiles duplicates files by name.
func dupFiles(files map[string]*os.File) (map[string]int, error) {
	out := make(map[string]int, len(files))
	for name, f := range files {
		fd, err := dupFile(f)
		if err != nil {
			for _, fd := range out {
				closeAll(fd)
			}
			return nil, err
		}
		out[name] = fd
	}
	return out, nil
}

// dupFile duplicates a file's descriptor, close-on-exec. Unlike File.Fd it leaves the file's mode alone.
func dupFile(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	n, derr := -1, error(nil)
	if err := raw.Control(func(fd uintptr) { n, derr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return -1, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	if derr != nil {
		return -1, fmt.Errorf("duplicate %s: %w", f.Name(), derr)
	}
	return n, nil
}

func dupAll(fds []int) ([]int, error) {
	out := make([]int, 0, len(fds))
	for _, fd := range fds {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			closeAll(out...)
			return nil, fmt.Errorf("duplicate descriptor: %w", err)
		}
		out = append(out, n)
	}
	return out, nil
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// past remembers the ends of oneshots for whoever waits for them late.
type past struct {
	exits map[string]Exit
	order []string
}

const pastMost = 1024

func (p *past) add(e Exit) {
	if p.exits == nil {
		p.exits = make(map[string]Exit)
	}
	if _, again := p.exits[e.Key]; !again {
		p.order = append(p.order, e.Key)
	}
	p.exits[e.Key] = e
	if len(p.order) > pastMost {
		delete(p.exits, p.order[0])
		p.order = p.order[1:]
	}
}

func (p *past) take(key string) (Exit, bool) {
	e, ok := p.exits[key]
	if ok {
		delete(p.exits, key)
	}
	return e, ok
}

var errKept = errors.New("keeper told of what it keeps in a form that this daemon doesn't know")
