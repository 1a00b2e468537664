package sandbox

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Streams are a client's ends of a session with a process. Readers and writers
// may be nil. Whoever reads Stdin may go on to do so when the session has ended:
// the caller ends that by closing it.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	// Resize has the sizes of the client's terminal; closed, it says that the client is gone.
	Resize <-chan TerminalSize
}

// TerminalSize is in characters.
type TerminalSize struct{ Width, Height uint16 }

// pass copies to a client until the source's end. A client that doesn't take it
// is no reason for the process to stop: the rest is read and thrown away.
func pass(to io.Writer, from io.Reader) {
	if to != nil {
		if _, err := io.Copy(to, from); err == nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, from) // ends with the source
}

// lastBytes is how much is read of a pipe that a process left to others: what fits
// into one.
const lastBytes = 1 << 20

// output is what a process writes: a pipe, or its terminal. At the end that finish
// sets, whatever is in it is still read, but no more is awaited.
type output struct {
	file *os.File
	last int // bytes read since that end
}

// Read ends with io.EOF when a terminal hangs up, too.
func (o *output) Read(p []byte) (int, error) {
	n, err := o.file.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return o.rest(p)
	}
	if errors.Is(err, unix.EIO) || errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// rest reads what is there. The poller does not do that after its deadline.
func (o *output) rest(p []byte) (int, error) {
	raw, err := o.file.SyscallConn()
	if err != nil || o.last >= lastBytes {
		return 0, io.EOF
	}
	n := 0
	cerr := raw.Control(func(fd uintptr) {
		for err = unix.EINTR; err == unix.EINTR; {
			n, err = unix.Read(int(fd), p)
		}
	})
	if cerr != nil || err != nil || n <= 0 {
		return 0, io.EOF
	}
	o.last += n
	return n, nil
}

// finish has reads end that wait longer than d from now.
func (o *output) finish(d time.Duration) { _ = o.file.SetReadDeadline(time.Now().Add(d)) }

// duplicate opens another descriptor of a file, with a poller's state of its own:
// its deadlines and its end are not the other's.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	n := -1
	cerr := raw.Control(func(fd uintptr) { n, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(cerr, err); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), f.Name()), nil
}

// resize tells a terminal its size, and its processes of the change (SIGWINCH,
// ioctl_tty(2)).
func resize(master *os.File, to TerminalSize) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: to.Height, Col: to.Width})
	})
	return errors.Join(cerr, err)
}
