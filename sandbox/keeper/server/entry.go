package server

import (
	"errors"
	"syscall"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper/copier"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// entry is what is kept under a key. Its fields belong to the table's lock.
type entry struct {
	key     string
	holds   map[string]int
	process *process // nil: descriptors only
	// launching is the launch under way; then process is nil.
	launching *launching
}

// process is a process that runs, or whose exit is kept.
type process struct {
	pid     int
	pidfd   int
	oneshot bool
	maxLine int
	names   []string      // of its streams
	copy    *copier.Copy  // nil: no streams
	gone    bool          // reaped before it could be registered; pidfd is another's
	watch   uint64        // of its pidfd, when another process is its parent
	death   *death        // nil: it runs
	drained bool          // all streams have ended
	exit    *wire.Exit    // nil: not to be told yet
	times   *launch.Times // of its launch, until the daemon has them; nil: not asked for
}

// close gives back what the process has here. The process itself is left alone.
func (p *process) close(c *copier.Copier) {
	if p.copy != nil {
		p.copy.Close()
	}
	c.Unwatch(p.pidfd, p.watch)
	closeFD(p.pidfd)
}

// hold adds descriptors, in place of those of the same names.
func (e *entry) hold(names []string, files []int) {
	if e.holds == nil && len(names) > 0 {
		e.holds = make(map[string]int, len(names))
	}
	for i, name := range names {
		if old, ok := e.holds[name]; ok {
			closeFD(old)
		}
		e.holds[name] = files[i]
	}
}

// death is the end of a process.
type death struct {
	status syscall.WaitStatus
	known  bool
	at     int64 // ns
}

// record describes the entry, with duplicates of its descriptors.
func (e *entry) record() (*wire.Record, []int, error) {
	r := &wire.Record{Key: e.key}
	var files []int
	var errs []error
	add := func(fd int) {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			errs = append(errs, err)
			return
		}
		files = append(files, n)
	}
	if p := e.process; p != nil {
		r.PID, r.Oneshot, r.MaxLine, r.Exit = p.pid, p.oneshot, p.maxLine, p.exit
		r.HasPidFD = true
		add(p.pidfd)
		if p.copy != nil {
			f, err := p.copy.Files(p.names)
			errs = append(errs, err)
			r.Streams, r.Journals, r.Relays, r.Generation = f.Names, len(f.Journals) > 0, len(f.Relays) > 0, f.Generation
			files = append(append(append(files, f.Sources...), f.Journals...), f.Relays...)
			if f.Log >= 0 {
				r.Logs = 1
				files = append(files, f.Log)
			}
		}
	}
	for name, fd := range e.holds {
		r.Holds = append(r.Holds, name)
		add(fd)
	}
	return r, files, errors.Join(errs...)
}

// closeFD closes descriptors; -1 stands for none.
func closeFD(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
