package server

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/sandbox/keeper/wire"
)

// A daemon that knows of the last exit may end the keeper, before the keeper has done what it does when that is sent.
func TestShutdownBehindTheLastExit(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*wire.Conn
	for i, fd := range pair {
		if ends[i], err = wire.NewConn(fd); err != nil {
			t.Fatal(err)
		}
	}
	daemon, ses := ends[0], newSession(ends[1])
	defer daemon.Close()
	defer ses.close()
	s := &Server{log: &eventLog{w: io.Discard}, table: newTable(nil), end: make(chan struct{})}
	s.table.entries["oneshot"] = &entry{key: "oneshot"}
	goOn := make(chan struct{})
	ses.send(wire.Message{Kind: wire.KindExit}, func() {
		<-goOn
		s.table.forget("oneshot", false)
	})
	go ses.write() // ends with the session
	if err := daemon.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if m, err := daemon.Receive(); err != nil || m.Kind != wire.KindExit {
		t.Fatalf("%v, %v", m, err)
	}
	s.shutdown(ses, 7)
	close(goOn)
	m, err := daemon.Receive()
	if err != nil || m.Kind != wire.KindDone || m.ID != 7 {
		t.Fatalf("%v, %v", m, err)
	}
	if r, err := wire.ParseResult(m.Body); err != nil || r != (wire.Result{}) {
		t.Fatalf("the answer is %+v, %v", r, err)
	}
	<-s.end
}
