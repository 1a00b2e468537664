package server

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// A keeper that has no descriptor left for a daemon's connection must not end: nobody
// would log and reap. It takes the connection as soon as it has one again.
func TestAcceptOutlivesTheLackOfDescriptors(t *testing.T) {
	addr := &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}
	listener, client := socket(t), socket(t)
	for _, err := range []error{unix.Bind(listener, addr), unix.Listen(listener, 1), unix.Connect(client, addr), unix.SetNonblock(listener, true)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{listener: os.NewFile(uintptr(listener), "listener"), log: &eventLog{w: io.Discard}, table: newTable(nil)}
	daemon, err := wire.NewConn(client)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	restore := takeDescriptors(t)
	ended := make(chan error, 1)
	go func() { ended <- s.accept() }() // ends with the listener
	select {
	case err := <-ended:
		restore()
		t.Fatalf("the keeper would end: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	restore()
	hello := wire.Hello{Version: wire.Version, PID: os.Getpid()}
	if err := daemon.Send(wire.Message{Kind: wire.KindHello, Body: hello.Append(nil)}); err != nil {
		t.Fatal(err)
	}
	if err := daemon.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if m, err := daemon.Receive(); err != nil || m.Kind != wire.KindHello {
		t.Errorf("answer %v, %v", m, err)
	}
	s.listener.Close()
	<-ended
}

func socket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// takeDescriptors leaves the process none to open, until restore.
func takeDescriptors(t *testing.T) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}
}
