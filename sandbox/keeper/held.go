package keeper

import (
	"errors"
	"os"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// held is the daemon's duplicate of what the keeper keeps under a key: enough to hand it to another
// keeper. It belongs to the lock of its holdings.
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
	relays     []int
	logs       []int // none, one, or (while one is reopened) old and new
	generation uint32
	reopening  chan struct{} // has room for one, who reopens
	ended      chan struct{} // closed when exit is known
	exit       *Exit
}

func newProcess() *heldProcess {
	return &heldProcess{pidfd: -1, reopening: make(chan struct{}, 1), ended: make(chan struct{})}
}

// heldFrom holds what a keeper told it keeps, and takes over the descriptors.
func heldFrom(r *wire.Record, fds []int) *held {
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
		if r.Relays {
			p.relays = take(len(r.Streams))
		}
		p.logs = take(r.Logs)
		h.process = p
	}
	holds := make(map[string]int, len(r.Holds))
	for i, fd := range take(len(r.Holds)) {
		holds[r.Holds[i]] = fd
	}
	h.hold(holds)
	return h
}

// record describes what is held, with duplicates of the descriptors, which are the caller's to close.
func (h *held) record(key string) (*wire.Record, []int, error) {
	r := &wire.Record{Key: key}
	var fds []int
	if p := h.process; p != nil {
		r.PID, r.HasPidFD, r.Oneshot = p.pid, true, p.oneshot
		if e := p.exit; e != nil {
			r.Exit = &wire.Exit{Status: e.Status, Known: e.Known, At: e.At}
		}
		fds = p.appendStreams(r, append(fds, p.pidfd))
	}
	fds = appendHolds(r, fds, h.holds)
	dups, err := dupAll(fds)
	return r, dups, err
}

// appendStreams adds streams and logs to a record and their descriptors to fds.
func (p *heldProcess) appendStreams(r *wire.Record, fds []int) []int {
	r.MaxLine, r.Generation = p.maxLine, p.generation
	r.Streams, r.Journals, r.Relays, r.Logs = p.names, len(p.journals) > 0, len(p.relays) > 0, len(p.logs)
	fds = append(append(append(fds, p.streams...), p.journals...), p.relays...)
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

func (h *held) close() {
	if h.process != nil {
		h.process.close()
	}
	closeMap(h.holds)
	h.holds = nil
}

// close may be called twice.
func (p *heldProcess) close() {
	closeAll(p.pidfd)
	closeAll(p.streams...)
	closeAll(p.journals...)
	closeAll(p.relays...)
	closeAll(p.logs...)
	p.pidfd, p.names, p.streams, p.journals, p.relays, p.logs = -1, nil, nil, nil, nil, nil
}
