package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// follow reads a stream until its end, as package sandbox does: when a pipe ends
// it asks for another from where it had come to. It returns what came, and how many
// bytes it was too slow for.
func (b *bed) follow(c *Client, key, stream string, attached func()) (string, int64) {
	var out strings.Builder
	var position, missed int64
	for {
		r, at, err := c.Attach(b.ctx, key, stream, position)
		if errors.Is(err, ErrUnknownKey) {
			return out.String(), missed
		}
		if err != nil {
			b.t.Errorf("attach: %v", err)
			return "", 0
		}
		if position != 0 {
			missed += at - position
		}
		if attached != nil {
			attached()
			attached = nil
		}
		n, err := io.Copy(&out, r)
		if err != nil {
			b.t.Errorf("read: %v", err)
		}
		r.Close()
		position = at + n
	}
}

// TestRootAttachWhileKeepersDie has an onlooker see all of a flood under which the
// keeper is killed again and again, and the log have all of it too.
func TestRootAttachWhileKeepersDie(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	const lines = 150_000
	gate, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	script := fmt.Sprintf(`head -c 1 <&2 >/dev/null; awk 'BEGIN { for (i = 0; i < %d; i++) print "line " i " of a flood" }'; printf "no end"; sleep 2; exit 7`, lines)
	// Standard error is what the script waits for: there is no stdin here. It stays a while: of a stream that ends before
	// the next keeper is asked, nobody counts what is missing.
	k := b.launch(c, "flood", shell(2, script), func(l *Launch) {
		l.Streams = l.Streams[:1]
		l.Files[1] = gate
	})
	type seen struct {
		text   string
		missed int64
	}
	result := make(chan seen, 1)
	attached := make(chan struct{})
	go func() {
		text, missed := b.follow(c, "flood", "stdout", func() { close(attached) })
		result <- seen{text, missed}
	}()
	<-attached
	open.Close()
	for range 8 {
		time.Sleep(3 * time.Millisecond)
		old := c.PID()
		killKeeper(t, c)
		newKeeper(t, c, old)
	}
	if e := b.wait(c, "flood"); e.Known && e.Status.ExitStatus() != 7 {
		t.Errorf("exit %+v", e)
	}
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d of a flood\n", i)
	}
	want.WriteString("no end")
	if got := raw(parseLog(t, k.log), "stdout"); got != want.String() {
		t.Errorf("the log has %d bytes of %d", len(got), want.Len())
	}
	select {
	case s := <-result:
		// What was in the old keeper's hands when it died may be missing, but is counted.
		if int64(len(s.text))+s.missed != int64(want.Len()) || s.missed == 0 && s.text != want.String() {
			t.Errorf("the onlooker saw %d bytes and missed %d of %d", len(s.text), s.missed, want.Len())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the onlooker gets no end")
	}
}

func TestRootAttachFails(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	b.launch(c, "quiet", shell(2, "exec sleep 100"), nil)
	for _, what := range [][2]string{{"none", "stdout"}, {"quiet", "stdlog"}} {
		if _, _, err := c.Attach(b.ctx, what[0], what[1], 0); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%v: %v", what, err)
		}
	}
}

// TestRootOnlookersLeave holds that those who have gone leave nothing in the keeper,
// though the process says nothing.
func TestRootOnlookersLeave(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	b.launch(c, "quiet", shell(2, "exec sleep 100"), nil)
	before := countFiles(t, c.PID())
	for range 50 {
		r, _, err := c.Attach(b.ctx, "quiet", "stdout", 0)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	for range 200 {
		if countFiles(t, c.PID()) <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("keeper: %d descriptors before, %d after", before, countFiles(t, c.PID()))
}

// TestRootTerminalStream copies a terminal, whose end is the process's.
func TestRootTerminalStream(t *testing.T) {
	needRoot(t)
	b := newBed(t)
	c := b.connect()
	drainExits(c)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	slave := peer(t, master)
	k := b.launch(c, "terminal", shell(2, "stty -onlcr <&1; echo first; killed=$(sleep 0.5); echo second; exit 3"), func(l *Launch) {
		l.Streams = []Stream{{Name: "stdout", File: master}}
		l.Files = []*os.File{slave, slave}
		l.Hold = map[string]*os.File{"input": master}
	})
	slave.Close()
	old := c.PID()
	killKeeper(t, c)
	newKeeper(t, c, old)
	b.wait(c, "terminal")
	if got := raw(parseLog(t, k.log), "stdout"); got != "first\nsecond\n" {
		t.Errorf("the log has %q", got)
	}
}

func peer(t *testing.T, master *os.File) *os.File {
	t.Helper()
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var slave *os.File
	if err := raw.Control(func(fd uintptr) {
		n := 0
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return slave
}
