package wire

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = NewConn(fds[0]); err != nil {
		t.Fatal(err)
	}
	if b, err = NewConn(fds[1]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestConnCarriesManyFiles(t *testing.T) {
	for _, n := range []int{0, 1, 252, 253, 254, 600} {
		a, b := pair(t)
		before := openFiles(t)
		null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		files := make([]int, n)
		for i := range files {
			files[i] = null
		}
		body := []byte(strings.Repeat("b", 40_000))
		sent := make(chan error, 1)
		go func() {
			sent <- errors.Join(a.Send(Message{Kind: KindLaunch, ID: 3, Body: body, Files: files}), a.Send(Message{Kind: KindForget, ID: 4}))
		}()
		m, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind != KindLaunch || m.ID != 3 || string(m.Body) != string(body) || len(m.Files) != n || m.Err != nil {
			t.Fatalf("%d files: got kind %d id %d, %d bytes, %d files, %v", n, m.Kind, m.ID, len(m.Body), len(m.Files), m.Err)
		}
		for _, fd := range m.Files {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Fatalf("descriptor %d: flags %x, %v", fd, flags, err)
			}
		}
		m.CloseFiles()
		if m, err = b.Receive(); err != nil || m.Kind != KindForget || m.ID != 4 || len(m.Body) != 0 {
			t.Fatalf("second message %+v, %v", m, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		unix.Close(null)
		if after := openFiles(t); after != before {
			t.Errorf("%d files: %d descriptors before, %d after", n, before, after)
		}
	}
}

func TestConnEnds(t *testing.T) {
	a, b := pair(t)
	if b.HungUp() {
		t.Error("hung up before it was")
	}
	a.Close()
	if !b.HungUp() {
		t.Error("not hung up")
	}
	if _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want EOF", err)
	}
	if err := b.Send(Message{Kind: KindForget}); !errors.Is(err, unix.EPIPE) {
		t.Errorf("error %v, want EPIPE", err)
	}
	b.Close()
	if err := b.Send(Message{Kind: KindForget}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if _, err := b.Receive(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

func TestConnRefusesHostilePackets(t *testing.T) {
	for name, packet := range map[string][]byte{
		"garbage":           []byte("hello"),
		"begins with more":  header{kind: kindMore}.append(nil),
		"missing files":     append(header{kind: KindForget, files: 1, body: 0}.append(nil), header{kind: KindForget}.append(nil)...),
		"unpaid promise":    header{kind: KindForget, files: 2}.append(nil),
		"beyond the bounds": make([]byte, headerLen+MaxBody+1),
	} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewConn(fds[0])
		if err != nil {
			t.Fatal(err)
		}
		// A descriptor comes along, and must not be left open.
		if err := unix.Sendmsg(fds[1], packet, unix.UnixRights(0), nil, 0); err != nil {
			t.Fatal(err)
		}
		unix.Close(fds[1])
		before := openFiles(t)
		if _, err := c.Receive(); !errors.Is(err, ErrFormat) && !errors.Is(err, io.EOF) {
			t.Errorf("%s: error %v", name, err)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d descriptors before, %d after", name, before, after)
		}
		c.Close()
	}
}

func TestConnSurvivesLostFiles(t *testing.T) {
	a, b := pair(t)
	files := make([]int, 300)
	for i := range files {
		files[i] = 0
	}
	sent := make(chan error, 1)
	go func() {
		sent <- errors.Join(a.Send(Message{Kind: KindLaunch, ID: 1, Files: files}), a.Send(Message{Kind: KindForget, ID: 2}))
	}()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 120
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	m, err := b.Receive()
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); e != nil {
		t.Fatal(e)
	}
	if err != nil || !errors.Is(m.Err, ErrFilesLost) || m.ID != 1 || len(m.Files) != 0 {
		t.Fatalf("message %+v, %v", m, err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if m, err := b.Receive(); err != nil || m.ID != 2 {
		t.Fatalf("next message %+v, %v", m, err)
	}
}

func TestPeerUID(t *testing.T) {
	a, _ := pair(t)
	if uid, err := a.PeerUID(); err != nil || int(uid) != os.Getuid() {
		t.Errorf("uid %d, %v", uid, err)
	}
}
