package wire

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrFilesLost is a message of which some descriptors could not be received: the receiver is at its
// RLIMIT_NOFILE. The message's Files were closed; the conversation goes on.
var ErrFilesLost = errors.New("descriptors of a keeper message were lost")

// Message is what goes over a Conn in one piece.
type Message struct {
	Kind  Kind
	ID    uint32 // of the request; 0 for what is no request and no answer
	Body  []byte
	Files []int // sending: stay the sender's; receiving: close-on-exec, the receiver's to close
	Err   error // receiving: ErrFilesLost
}

// CloseFiles closes the descriptors that came with a message.
func (m *Message) CloseFiles() {
	for _, fd := range m.Files {
		unix.Close(fd)
	}
	m.Files = nil
}

// Conn is one end of a conversation. One goroutine may receive while any number send.
type Conn struct {
	file *os.File
	raw  syscall.RawConn

	sending sync.Mutex
	out     []byte // for Send
	oob     []byte // for Receive
}

// NewConn takes over a connected SOCK_SEQPACKET socket. It waits in Go's poller: a Conn blocks no thread.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set socket non-blocking: %w", err)
	}
	f := os.NewFile(uintptr(fd), "keeper socket")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("use socket: %w", err)
	}
	return &Conn{file: f, raw: raw, oob: make([]byte, unix.CmsgSpace(4*maxRights))}, nil
}

// Close ends the conversation; blocked calls return.
func (c *Conn) Close() error { return c.file.Close() }

// SetDeadline makes calls that block at that time return os.ErrDeadlineExceeded; the zero time: never.
func (c *Conn) SetDeadline(t time.Time) error { return c.file.SetDeadline(t) }

// Send sends a message, in several packets when it has many descriptors. It blocks while the peer
// doesn't read.
func (c *Conn) Send(m Message) error {
	if len(m.Body) > MaxBody || len(m.Files) > MaxFiles {
		return fmt.Errorf("send keeper message: %d bytes, %d descriptors: %w", len(m.Body), len(m.Files), unix.EMSGSIZE)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	first, rest := split(m.Files)
	c.out = header{kind: m.Kind, id: m.ID, body: len(m.Body), files: len(m.Files)}.append(c.out[:0])
	c.out = append(c.out, m.Body...)
	if err := c.sendPacket(c.out, first); err != nil {
		return err
	}
	for len(rest) > 0 {
		first, rest = split(rest)
		c.out = header{kind: kindMore, id: m.ID, files: len(first)}.append(c.out[:0])
		if err := c.sendPacket(c.out, first); err != nil {
			return err
		}
	}
	if cap(c.out) > 4096 {
		c.out = nil
	}
	return nil
}

func split(files []int) (first, rest []int) {
	n := min(len(files), maxRights)
	return files[:n], files[n:]
}

func (c *Conn) sendPacket(p []byte, files []int) error {
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	for {
		var serr error
		err := c.raw.Write(func(fd uintptr) bool {
			for serr = unix.EINTR; serr == unix.EINTR; {
				serr = unix.Sendmsg(int(fd), p, oob, nil, unix.MSG_NOSIGNAL)
			}
			return serr != unix.EAGAIN
		})
		if err = rawError(err); err == nil {
			err = serr
		}
		if errors.Is(err, unix.ETOOMANYREFS) {
			// Too many descriptors are on their way (unix(7)): the peer has to take some off first.
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("send keeper message: %w", err)
		}
		return nil
	}
}

// Receive returns the next message, io.EOF at the conversation's end. The body is the message's own.
func (c *Conn) Receive() (Message, error) {
	h, body, files, lost, err := c.receivePacket()
	if err == nil && h.kind == kindMore {
		err = fmt.Errorf("%w: a message begins with kind %d", ErrFormat, h.kind)
	}
	m := Message{Kind: h.kind, ID: h.id, Body: body, Files: files}
	claimed := len(files) // what the packets so far should have brought
	if lost {
		claimed = min(h.files, maxRights)
	}
	for err == nil && claimed < h.files {
		var more header
		var short bool
		more, _, files, short, err = c.receivePacket()
		m.Files = append(m.Files, files...)
		if err == nil && (more.kind != kindMore || more.id != h.id || more.files == 0 || more.files > maxRights) {
			err = fmt.Errorf("%w: descriptors missing", ErrFormat)
		}
		if err == nil && !short && len(files) != more.files {
			err = fmt.Errorf("%w: %d descriptors, not %d", ErrFormat, len(files), more.files)
		}
		claimed += more.files
		lost = lost || short
	}
	if err == nil && !lost && len(m.Files) != h.files {
		err = fmt.Errorf("%w: %d descriptors, not %d", ErrFormat, len(m.Files), h.files)
	}
	if err != nil {
		m.CloseFiles()
		return Message{}, err
	}
	if lost {
		m.CloseFiles()
		m.Err = ErrFilesLost
	}
	return m, nil
}

func (c *Conn) receivePacket() (h header, body []byte, files []int, lost bool, err error) {
	var packet []byte
	var oobn, flags int
	var rerr error
	err = c.raw.Read(func(fd uintptr) bool {
		// The length first, so that an idle Conn holds no buffer, and a body is never copied.
		var n int
		if n, rerr = peek(int(fd)); rerr == unix.EAGAIN {
			return false
		}
		if rerr != nil || n == 0 {
			return true
		}
		packet = make([]byte, min(n, headerLen+MaxBody))
		_, oobn, flags, _, rerr = unix.Recvmsg(int(fd), packet, c.oob, unix.MSG_CMSG_CLOEXEC)
		return true
	})
	if err = rawError(err); err == nil {
		err = rerr
	}
	if err != nil {
		return h, nil, nil, false, fmt.Errorf("receive keeper message: %w", err)
	}
	if len(packet) == 0 {
		return h, nil, nil, false, io.EOF
	}
	files = parseRights(c.oob[:oobn])
	if flags&unix.MSG_TRUNC != 0 {
		return h, nil, files, false, fmt.Errorf("%w: packet too long", ErrFormat)
	}
	if h, err = parseHeader(packet); err != nil {
		return h, nil, files, false, err
	}
	return h, packet[headerLen:], files, flags&unix.MSG_CTRUNC != 0, nil
}

// rawError names the error of a RawConn: a deadline, or the Conn was closed here, for which package os
// has a name and RawConn another.
func rawError(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return os.ErrClosed
}

// peek returns the length of the next packet, 0 at the end, and leaves it there.
func peek(fd int) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, nil, unix.MSG_PEEK|unix.MSG_TRUNC)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func parseRights(oob []byte) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var files []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err == nil {
			files = append(files, fds...)
		}
	}
	return files
}

// PeerUID returns the user that the other end ran as when it connected (SO_PEERCRED, unix(7)).
func (c *Conn) PeerUID() (uint32, error) {
	var cred *unix.Ucred
	var cerr error
	err := c.raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err == nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("read peer of socket: %w", err)
	}
	return cred.Uid, nil
}

// HungUp says whether the other end is gone, without taking anything off the socket.
func (c *Conn) HungUp() bool {
	gone := true
	_ = c.raw.Control(func(fd uintptr) { // an error: closed by us
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n == 1 && p[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR) != 0
	})
	return gone
}
