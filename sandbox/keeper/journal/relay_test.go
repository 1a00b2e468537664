package journal

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// onTerminal makes the bench's stream a terminal: r is its master, w its slave, which passes bytes on as they are.
func (b *bench) onTerminal() (relay int) {
	b.t.Helper()
	unix.Close(b.r)
	unix.Close(b.w)
	var err error
	if b.r, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		b.t.Fatal(err)
	}
	if err = unix.IoctlSetPointerInt(b.r, unix.TIOCSPTLCK, 0); err != nil {
		b.t.Fatal(err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(b.r), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		b.t.Fatal(errno)
	}
	b.w = int(peer)
	mode, err := unix.IoctlGetTermios(b.w, unix.TCGETS)
	if err != nil {
		b.t.Fatal(err)
	}
	mode.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(b.w, unix.TCSETS, mode); err != nil {
		b.t.Fatal(err)
	}
	if relay, err = CreateRelay(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { unix.Close(relay) })
	return relay
}

func (b *bench) terminalKeeper(relay int) (*Stream, *Log) {
	b.t.Helper()
	s, err := NewStream("stdout", Descriptors{dup(b.t, b.r), dup(b.t, b.journal), dup(b.t, relay)}, 0)
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

// A keeper is killed when it has taken from the terminal, and the journal has not got it.
func TestTerminalOfAKilledKeeper(t *testing.T) {
	b := newBench(t)
	relay := b.onTerminal()
	s, l := b.terminalKeeper(relay)
	b.write("one\n")
	step(t, s, l, b.buf)
	b.write("two\n")
	if n, err := splice(b.r, relay, 4096); n != 4 || err != nil {
		t.Fatalf("from the terminal: %d, %v", n, err)
	}
	b.write("three\n")
	s, l = b.terminalKeeper(relay)
	step(t, s, l, b.buf)
	if got := unformat(t, b.logged()); string(got) != "one\ntwo\nthree\n" {
		t.Errorf("the log has %q", got)
	}
}

// More than terminal, relay and a turn take at once, to the end.
func TestTerminalFlood(t *testing.T) {
	b := newBench(t)
	s, l := b.terminalKeeper(b.onTerminal())
	var want bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintln(&want, i)
	}
	written := make(chan error, 1)
	go func() {
		for rest := want.Bytes(); len(rest) > 0; {
			n, err := unix.Write(b.w, rest)
			if err != nil {
				written <- err
				return
			}
			rest = rest[n:]
		}
		written <- nil
	}()
	for {
		_, eof, err := s.Take(b.buf)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(l, b.buf, eof); err != nil {
			t.Fatal(err)
		}
		if eof {
			break
		}
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(b.w)
			b.w = -1
		default:
		}
	}
	if got := unformat(t, b.logged()); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("the log has %d bytes, wanted %d", len(got), want.Len())
	}
}
