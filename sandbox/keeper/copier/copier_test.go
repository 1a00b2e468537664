package copier

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/keeper/journal"
	"golang.org/x/sys/unix"
)

type bed struct {
	t      *testing.T
	copier *Copier

	mu     sync.Mutex
	stalls []error
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t}
	var err error
	b.copier, err = New(func(_ string, err error) {
		b.mu.Lock()
		b.stalls = append(b.stalls, err)
		b.mu.Unlock()
	})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- b.copier.Run() }()
	t.Cleanup(func() {
		b.copier.Close()
		if err := <-ran; !errors.Is(err, os.ErrClosed) {
			t.Errorf("run ended with %v", err)
		}
	})
	return b
}

// copied is one Copy with n streams, and the files at its other ends.
type copied struct {
	*Copy
	writers []*os.File
	ended   chan struct{}
	names   []string
}

func dup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func openLog(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func (b *bed) start(n, log int) *copied {
	b.t.Helper()
	k := &copied{ended: make(chan struct{})}
	var sources []*Source
	for i := range n {
		r, w, err := os.Pipe()
		if err != nil {
			b.t.Fatal(err)
		}
		k.writers = append(k.writers, w)
		k.names = append(k.names, fmt.Sprint("s", i))
		fd := dup(b.t, r)
		r.Close()
		if log < 0 {
			sources = append(sources, &Source{FD: fd})
			continue
		}
		j, err := journal.Create()
		if err != nil {
			b.t.Fatal(err)
		}
		s, err := journal.NewStream(k.names[i], journal.Descriptors{Source: fd, Journal: j, Relay: -1}, 0)
		if err != nil {
			b.t.Fatal(err)
		}
		sources = append(sources, &Source{Journal: s})
	}
	var l *journal.Log
	if log >= 0 {
		l = journal.NewLog(log, 0)
	}
	var err error
	if k.Copy, err = b.copier.Start("c", sources, l, func() { close(k.ended) }); err != nil {
		b.t.Fatal(err)
	}
	return k
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal(what, " doesn't come true")
}

func texts(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(line, " ", 2); len(f) == 2 {
			out = append(out, strings.TrimSuffix(f[1], "\n"))
		}
	}
	return strings.Join(out, ", ")
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestCopyToTheEnd(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "log")
	k := b.start(2, openLog(t, path))
	write(t, k.writers[0], "a\n")
	within(t, "a", func() bool { return texts(t, path) == "s0 F a" })
	write(t, k.writers[1], "b\nrest")
	k.writers[1].Close()
	within(t, "b", func() bool { return texts(t, path) == "s0 F a, s1 F b, s1 P rest" })
	files, err := k.Files(k.names)
	if err != nil || fmt.Sprint(files.Names) != "[s0]" || len(files.Sources) != 1 || len(files.Journals) != 1 || files.Log < 0 {
		t.Errorf("files %+v, %v", files, err)
	}
	for _, fd := range append(append(files.Sources, files.Journals...), files.Log) {
		unix.Close(fd)
	}
	select {
	case <-k.ended:
		t.Error("ended with a stream open")
	default:
	}
	k.writers[0].Close()
	<-k.ended
	k.Close()
	k.Close()
	k.Reopen(openLog(t, path), 1, func(err error) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("reopen after the end: %v", err)
		}
	})
}

func TestCopyWithoutStreamsEnds(t *testing.T) {
	b := newBed(t)
	<-b.start(0, -1).ended
}

func TestDiscard(t *testing.T) {
	b := newBed(t)
	k := b.start(1, -1)
	for range 64 { // more than a pipe has room for
		write(t, k.writers[0], strings.Repeat("x", 32<<10))
	}
	k.writers[0].Close()
	<-k.ended
}

func TestFlushWritesAnUnfinishedLine(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "log")
	k := b.start(1, openLog(t, path))
	write(t, k.writers[0], "prompt> ")
	time.Sleep(20 * time.Millisecond)
	if got := texts(t, path); got != "" {
		t.Errorf("unfinished line was written: %q", got)
	}
	k.Flush()
	within(t, "flush", func() bool { return texts(t, path) == "s0 P prompt> " })
	write(t, k.writers[0], "yes\n")
	within(t, "line", func() bool { return texts(t, path) == "s0 P prompt> , s0 F yes" })
	k.writers[0].Close()
	<-k.ended
	k.Close()
}

// A process that is dead and forgotten while a slow disk was written to: what is in
// its pipe still goes into the log, an unfinished last line too.
func TestCloseTakesWhatIsThere(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "log")
	k := b.start(2, openLog(t, path))
	const lines = 20000 // more than one turn takes
	if _, err := unix.FcntlInt(k.writers[0].Fd(), unix.F_SETPIPE_SZ, 1<<20); err != nil {
		t.Fatal(err)
	}
	write(t, k.writers[0], strings.Repeat(strings.Repeat("x", 39)+"\n", lines))
	write(t, k.writers[0], "last words")
	write(t, k.writers[1], "of one that is open\n")
	k.Close()
	k.writers[0].Close()
	var log []byte
	within(t, "the log's end", func() bool {
		log, _ = os.ReadFile(path)
		return strings.Contains(string(log), "last words")
	})
	if got := strings.Count(string(log), " s0 F "+strings.Repeat("x", 39)+"\n"); got != lines {
		t.Errorf("%d lines of %d are in the log", got, lines)
	}
	if !strings.Contains(string(log), " s0 P last words\n") || !strings.Contains(string(log), " s1 F of one that is open\n") {
		t.Errorf("the log ends with %q", log[max(0, len(log)-200):])
	}
	if err := k.writers[1].SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	within(t, "the pipe's end", func() bool {
		_, err := k.writers[1].WriteString("nobody reads this")
		return errors.Is(err, unix.EPIPE)
	})
	select {
	case <-k.ended:
		t.Error("it ended after it was closed")
	default:
	}
}

func TestStalledLogLosesNothing(t *testing.T) {
	b := newBed(t)
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := b.start(2, full)
	path := filepath.Join(t.TempDir(), "log")
	write(t, k.writers[0], "a\n")
	within(t, "stall", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.stalls) == 1 })
	write(t, k.writers[1], "b\n")
	over := make(chan error, 1)
	k.Reopen(openLog(t, path), 1, func(err error) { over <- err })
	if err := <-over; !errors.Is(err, unix.ENOSPC) {
		t.Errorf("reopen of a stalled log: %v", err)
	}
	// The disk has room again: another file takes the descriptor's place.
	log := openLog(t, path)
	if err := unix.Dup3(log, full, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(log)
	for _, w := range k.writers {
		w.Close()
	}
	<-k.ended
	if got := texts(t, path); got != "s0 F a, s1 F b" {
		t.Errorf("log has %q", got)
	}
	b.mu.Lock()
	if n := len(b.stalls); n != 2 || b.stalls[1] != nil {
		t.Errorf("told of %v", b.stalls)
	}
	b.mu.Unlock()
	k.Close()
}

func TestTerminalAndSocketSources(t *testing.T) {
	b := newBed(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Create()
	if err != nil {
		t.Fatal(err)
	}
	s, err := journal.NewStream("stdout", journal.Descriptors{Source: fds[0], Journal: j, Relay: -1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "log")
	ended := make(chan struct{})
	k, err := b.copier.Start("c", []*Source{{Journal: s}}, journal.NewLog(openLog(t, path), 0), func() { close(ended) })
	if err != nil {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(fds[1]), "socket")
	var want []string
	for i := range 3000 {
		write(t, w, fmt.Sprintf("line %d\n", i))
		want = append(want, fmt.Sprintf("stdout F line %d", i))
	}
	w.Close()
	<-ended
	if got := texts(t, path); got != strings.Join(want, ", ") {
		t.Errorf("log has %d bytes", len(got))
	}
	k.Close()
}

func TestWatchAndUnwatch(t *testing.T) {
	b := newBed(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fd := dup(t, r)
	defer unix.Close(fd)
	ready := make(chan struct{}, 10)
	id, err := b.copier.Watch(fd, func() { ready <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, "x")
	<-ready
	time.Sleep(10 * time.Millisecond)
	if len(ready) != 0 {
		t.Error("told twice")
	}
	b.copier.Unwatch(fd, id)
	b.copier.Unwatch(fd, id)
	if _, err := b.copier.Watch(-1, func() {}); err == nil {
		t.Error("a closed descriptor is watched")
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := b.copier.Watch(int(file.Fd()), func() {}); !errors.Is(err, unix.EPERM) {
		t.Errorf("a regular file is watched: %v", err)
	}
}
