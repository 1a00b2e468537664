package keeper

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper/wire"
	"golang.org/x/sys/unix"
)

// linked returns a link and the keeper's end of it.
func linked(t *testing.T) (*link, *wire.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := wire.NewConn(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	peer, err := wire.NewConn(fds[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); peer.Close() })
	return newLink(conn, wire.Hello{PID: 1}), peer
}

func TestLinkCall(t *testing.T) {
	l, peer := linked(t)
	cl := &call{kind: wire.KindForget, child: -1}
	got := make(chan answer, 1)
	go func() { got <- l.call(context.Background(), cl, &wire.Record{Key: "k"}, nil) }()
	m, err := peer.Receive()
	if err != nil || m.Kind != wire.KindForget {
		t.Fatalf("message %+v, %v", m, err)
	}
	if l.take(m.ID+1) != nil {
		t.Error("an answer to nothing finds a call")
	}
	if l.take(m.ID) != cl || l.take(m.ID) != nil {
		t.Error("a call is not answered exactly once")
	}
	cl.reply <- answer{result: wire.Result{PID: 5}}
	if a := <-got; a.err != nil || a.result.PID != 5 {
		t.Errorf("answer %+v", a)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if a := l.call(ctx, cl, &wire.Record{Key: "k"}, nil); !errors.Is(a.err, context.DeadlineExceeded) || !a.open {
		t.Errorf("unanswered: %+v", a)
	}
	if !l.withdraw(cl) || l.withdraw(cl) {
		t.Error("an open call can't be withdrawn exactly once")
	}
	if a := l.call(context.Background(), cl, &wire.Record{Key: "k"}, make([]int, wire.MaxFiles+1)); !errors.Is(a.err, unix.EMSGSIZE) || a.open {
		t.Errorf("too many files: %+v", a)
	}
	if !l.alive() || len(l.end()) != 0 || l.alive() {
		t.Error("the link's end is not told")
	}
	if a := l.call(context.Background(), cl, &wire.Record{Key: "k"}, nil); !errors.Is(a.err, errLost) {
		t.Errorf("call on a link that ended: %+v", a)
	}
}

func TestLineWaitsForTheNextLink(t *testing.T) {
	n := newLine()
	first, _ := linked(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := n.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no link: %v", err)
	}
	got := make(chan *link, 1)
	go func() { l, _ := n.wait(context.Background()); got <- l }()
	if !n.use(first) || <-got != first {
		t.Error("the link is not used")
	}
	first.end()
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := n.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a dead link that was not lost yet is handed out: %v", err)
	}
	second, _ := linked(t)
	if n.lose(second) {
		t.Error("a link that was not in use needs another in its place")
	}
	if !n.lose(first) || n.lose(first) {
		t.Error("the link's loss is not told exactly once")
	}
	second.end()
	if n.use(second) {
		t.Error("a dead link is used")
	}
	n.hangUp()
	n.hangUp()
	if _, err := n.wait(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if err := n.repeat(context.Background(), wire.KindForget, &wire.Record{Key: strings.Repeat("k", 300)}, nil); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("a record that doesn't fit: %v", err)
	}
}

func TestResult(t *testing.T) {
	for code, want := range map[wire.Code]error{
		wire.OK: nil, wire.InUse: ErrKeyInUse, wire.Unknown: ErrUnknownKey, wire.StillKept: ErrKept, wire.Aborted: context.Canceled,
	} {
		if err := result(wire.Result{Code: code}); !errors.Is(err, want) {
			t.Errorf("code %d: %v", code, err)
		}
	}
	var step *launch.StepError
	if err := result(wire.Result{Code: wire.StepFailed, Step: 4, Errno: unix.EPERM}); !errors.As(err, &step) || step.Step != 4 || !errors.Is(err, unix.EPERM) {
		t.Errorf("step: %v", err)
	}
	if err := result(wire.Result{Code: wire.Failed, Errno: unix.EIO, Text: "read: bad"}); !errors.Is(err, unix.EIO) || err.Error() != "read: bad" {
		t.Errorf("errno: %v", err)
	}
	if err := result(wire.Result{Code: wire.Failed, Text: "odd"}); err == nil || err.Error() != "odd" {
		t.Errorf("text: %v", err)
	}
}

// A keeper is not brought down by a daemon that talks nonsense, and keeps what it has.
func TestRootHostileDaemon(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	k := b.launch(c, "k", shell(2, "sleep 60"), nil)
	c.Close()
	before := settledFiles(t, c.PID(), 0)
	for _, m := range []wire.Message{
		{Kind: wire.KindForget, Body: []byte("nonsense"), Files: []int{0, 1}},
		{Kind: wire.KindExit, Body: (&wire.Record{Key: "k"}).Append(nil)},
		{Kind: wire.KindHello},
		{Kind: wire.KindLaunch, Body: (&wire.Record{Key: "new", HasProgram: true}).Append(nil), Files: []int{0}},
		{Kind: wire.KindLaunch, Body: (&wire.Record{Key: "new"}).Append(nil)},
		{Kind: wire.KindReopen, Body: (&wire.Record{Key: "k"}).Append(nil)},
		{Kind: wire.KindReopen, Body: (&wire.Record{Key: "nobody", Logs: 1}).Append(nil), Files: []int{0}},
		{Kind: wire.KindHold, Body: (&wire.Record{Key: "nothing"}).Append(nil)},
		{Kind: wire.KindAdopt, Body: (&wire.Record{Key: "bad", HasPidFD: true, PID: 1, Streams: []string{"s"}, Journals: true, Logs: 2}).Append(nil), Files: []int{0, 0, 0, 0, 0}},
		{Kind: wire.KindForget, Body: (&wire.Record{Key: "bad"}).Append(nil)},
	} {
		b.hostile(m)
	}
	if after := settledFiles(t, c.PID(), before); after > before {
		t.Errorf("keeper: %d descriptors before, %d after", before, after)
	}
	c = b.connect()
	if kept := c.Kept(); len(kept) != 1 || kept[0].Key != "k" || kept[0].PID != k.proc.PID {
		t.Errorf("kept %+v", kept)
	} else {
		kept[0].PidFD.Close()
	}
}

// hostile sends one message to the keeper and waits until it was looked at.
func (b *bed) hostile(m wire.Message) {
	b.t.Helper()
	conn, _, kept, err := b.cfg.dial(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	closeKept(kept)
	defer conn.Close()
	if err := conn.Send(m); err != nil {
		b.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	answer, err := conn.Receive()
	if err == nil {
		answer.CloseFiles()
	}
	if err != nil && !gone(err) {
		b.t.Errorf("message of kind %d: %v", m.Kind, err)
	}
}
