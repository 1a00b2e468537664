package copier

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/journal"
	"golang.org/x/sys/unix"
)

// attach attaches a pipe to a stream and returns its read end, and where it begins.
func (k *copied) attach(t *testing.T, stream int, position int64) (*os.File, int64) {
	t.Helper()
	read, at, err := k.tryAttach(t, stream, position)
	if err != nil {
		t.Fatal(err)
	}
	return read, at
}

func (k *copied) tryAttach(t *testing.T, stream int, position int64) (*os.File, int64, error) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	type answer struct {
		at  int64
		err error
	}
	done := make(chan answer, 1)
	k.Attach(stream, dup(t, write), position, func(at int64, err error) { done <- answer{at, err} })
	write.Close()
	select {
	case a := <-done:
		return read, a.at, a.err
	case <-time.After(10 * time.Second):
		t.Fatal("no answer to an attach")
		return nil, 0, nil
	}
}

func read(t *testing.T, f *os.File, n int) string {
	t.Helper()
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if m, err := io.ReadFull(f, b); err != nil {
		t.Fatalf("read %q: %v", b[:m], err)
	}
	return string(b)
}

func TestTapSeesWhatComes(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "log")
	k := b.start(2, openLog(t, path))
	write(t, k.writers[0], "before\n")
	within(t, "the log", func() bool { return texts(t, path) != "" })
	first, at := k.attach(t, 0, 0)
	if at != journal.Start+7 {
		t.Errorf("it begins at %d", at)
	}
	write(t, k.writers[0], "a prompt ")
	if got := read(t, first, 9); got != "a prompt " { // an unfinished line, too
		t.Errorf("got %q", got)
	}
	second, _ := k.attach(t, 0, at) // what was there is kept as long as somebody may want it
	if got := read(t, second, 9); got != "a prompt " {
		t.Errorf("the second got %q", got)
	}
	write(t, k.writers[1], "another stream\n")
	write(t, k.writers[0], "answered\n")
	for _, f := range []*os.File{first, second} {
		if got := read(t, f, 9); got != "answered\n" {
			t.Errorf("got %q", got)
		}
	}
	k.writers[0].Close()
	for _, f := range []*os.File{first, second} {
		if rest, err := io.ReadAll(f); err != nil || len(rest) > 0 {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	}
	if _, _, err := k.tryAttach(t, 0, 0); !errors.Is(err, ErrNoStream) {
		t.Errorf("a stream that has ended: %v", err)
	}
	if _, _, err := k.tryAttach(t, 2, 0); !errors.Is(err, ErrNoStream) {
		t.Errorf("no such stream: %v", err)
	}
	if got := texts(t, path); !strings.Contains(got, "a prompt answered") {
		t.Errorf("the log has %q", got)
	}
	k.Close()
	if _, _, err := k.tryAttach(t, 1, 0); !errors.Is(err, ErrNoStream) {
		t.Errorf("after Close: %v", err)
	}
}

// TestSlowTap has one onlooker that reads nothing, until it is cut, and a log and
// another that miss nothing.
func TestSlowTap(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "log")
	k := b.start(1, openLog(t, path))
	slow, _ := k.attach(t, 0, 0)
	quick, _ := k.attach(t, 0, 0)
	var seen bytes.Buffer
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(&seen, quick)
		close(ended)
	}()
	line := strings.Repeat("x", 1023) + "\n"
	const lines = (maxLag + 4<<20) / 1024
	for range lines {
		write(t, k.writers[0], line)
	}
	k.writers[0].Close()
	<-k.ended
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the quick one gets no end")
	}
	if seen.Len() != lines*1024 {
		t.Errorf("the quick one saw %d bytes of %d", seen.Len(), lines*1024)
	}
	if got := len(strings.ReplaceAll(texts(t, path), "\n", "")); got < lines*1023 {
		t.Errorf("the log has %d bytes of %d", got, lines*1023)
	}
	rest, err := io.ReadAll(slow)
	if err != nil || len(rest) == 0 || len(rest) >= lines*1024 || strings.Trim(string(rest), "x\n") != "" {
		t.Errorf("the slow one got %d bytes, %v", len(rest), err)
	}
}

// TestTapCatchesUp has an onlooker that pauses, and gets all when it goes on.
func TestTapCatchesUp(t *testing.T) {
	b := newBed(t)
	k := b.start(1, openLog(t, filepath.Join(t.TempDir(), "log")))
	slow, _ := k.attach(t, 0, 0)
	var want strings.Builder
	for i := range 20_000 {
		want.WriteString(strings.Repeat(string(rune('a'+i%26)), 99) + "\n")
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(k.writers[0], want.String())
	}()
	<-written // nobody waits for the onlooker
	if got := read(t, slow, want.Len()); got != want.String() {
		t.Error("it is not what was written")
	}
	within(t, "the journal to be given back", func() bool {
		var st unix.Stat_t
		f, err := k.Files([]string{"stdout"})
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range []int{f.Sources[0], f.Log} {
			unix.Close(fd)
		}
		defer unix.Close(f.Journals[0])
		return unix.Fstat(f.Journals[0], &st) == nil && st.Blocks == 0
	})
}

// TestTapsOfThoseWhoLeft holds that an onlooker who has gone is forgotten though
// the stream is quiet.
func TestTapsOfThoseWhoLeft(t *testing.T) {
	b := newBed(t)
	k := b.start(1, openLog(t, filepath.Join(t.TempDir(), "log")))
	for range 20 {
		gone, _ := k.attach(t, 0, 0)
		gone.Close()
	}
	within(t, "their pipes to be closed", func() bool {
		return openPipes(t) < 10
	})
}

func openPipes(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

// TestAttachWithoutLog looks at a stream whose bytes go nowhere else.
func TestAttachWithoutLog(t *testing.T) {
	b := newBed(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd := dup(t, r)
	r.Close()
	j, err := journal.Create()
	if err != nil {
		t.Fatal(err)
	}
	s, err := journal.NewStream("stdout", journal.Descriptors{Source: fd, Journal: j, Relay: -1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &copied{writers: []*os.File{w}, ended: make(chan struct{})}
	if k.Copy, err = b.copier.Start("c", []*Source{{Journal: s}}, nil, func() { close(k.ended) }); err != nil {
		t.Fatal(err)
	}
	write(t, w, "unseen")
	var seen *os.File
	var at int64
	within(t, "the stream to be read", func() bool {
		seen, at = k.attach(t, 0, 0)
		return at == journal.Start+6
	})
	write(t, w, "seen")
	if got := read(t, seen, 4); got != "seen" || at != journal.Start+6 {
		t.Errorf("got %q from %d on", got, at)
	}
	w.Close()
	<-k.ended
	k.Close()
}
