package criu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCheckNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	for name, w := range map[string]struct{ content, words string }{
		"none":   {"", "no such file"},
		"silent": {"#!/bin/sh\nexit 1\n", "for its version"},
		"other":  {"#!/bin/sh\necho a program of another kind\n", "of another kind"},
		"old":    {"#!/bin/sh\necho Version: 3.16.1\n", "has version 3.16, and 3.17 is needed"},
		"weak":   {"#!/bin/sh\ntest $1 = check || { echo 'Version: 4.1 (gitid 0)'; exit 0; }\necho '(00.08) Error (criu/kerndat.c:1): no such thing'\nexit 1\n", "check: no such thing"},
	} {
		path := filepath.Join(dir, name)
		if w.content != "" {
			if err := os.WriteFile(path, []byte(w.content), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		err := New(path).Check(t.Context())
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), w.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A program that doesn't answer is waited for no longer than the caller waits.
func TestCheckOfAProgramThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "criu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	checked := make(chan error, 1)
	go func() { checked <- New(path).Check(ctx) }() // ends with ctx
	select {
	case err := <-checked:
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnusable) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the check goes on")
	}
}

// A program is asked once, and again when it is another.
func TestCheckIsCached(t *testing.T) {
	dir := t.TempDir()
	path, calls := filepath.Join(dir, "criu"), filepath.Join(dir, "calls")
	program := "#!/bin/sh\necho call >> " + calls + "\nexit 1\n"
	if err := os.WriteFile(path, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	tool := New(path)
	asked := func() int {
		t.Helper()
		if err := tool.Check(t.Context()); !errors.Is(err, ErrUnusable) {
			t.Fatal(err)
		}
		text, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "call")
	}
	first := asked()
	if again := asked(); again != first {
		t.Errorf("asked %d times, then %d", first, again)
	}
	if err := os.WriteFile(path, []byte(program+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if again := asked(); again == first {
		t.Error("another program was not asked")
	}
}

func TestExplain(t *testing.T) {
	log := filepath.Join(t.TempDir(), "restore.log")
	cause := errors.New("criu restore")
	if err := Explain(cause, log); err != cause {
		t.Errorf("without a log: %v", err)
	}
	text := "(00.079788)      1: mnt: Move the root\n" +
		"(00.084697)      1: Error (criu/mount-v2.c:319): mnt-v2: Failed to open_tree /etc/hostname: Invalid argument\n" +
		"(00.090896) Error (criu/cr-restore.c:1495): 333 exited, status=1\n"
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "criu restore: mnt-v2: Failed to open_tree /etc/hostname: Invalid argument"
	if err := Explain(cause, log); err.Error() != want || !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// The dump's options name what isn't the tree's own.
func TestStandardStreams(t *testing.T) {
	names, err := standardStreams(os.Getpid())
	if err != nil || len(names) != 3 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, n := range names {
		if n != "" && !strings.HasPrefix(n, "pipe:[") && !strings.HasPrefix(n, "file[") && !strings.HasPrefix(n, "/dev/pts/") && !strings.HasPrefix(n, "socket:[") {
			t.Errorf("a stream called %q", n)
		}
	}
}

// What a dump writes of the mounts from outside, a restore reads; other runtimes' dumps say nothing of them.
func TestExternal(t *testing.T) {
	dir := t.TempDir()
	if names, err := External(dir); err != nil || names != nil {
		t.Errorf("of another's dump: %q, %v", names, err)
	}
	want := []string{"/data", "/data/a disk"}
	if err := writeNames(dir, externalFile, want); err != nil {
		t.Fatal(err)
	}
	if names, err := External(dir); err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v", names, err)
	}
	if err := os.WriteFile(filepath.Join(dir, externalFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := External(dir); err == nil {
		t.Error("a torn file was read")
	}
}

// No criu has the socket of another that is started at the same time: it would keep that one's conversation from ending.
func TestDumpsShareNoSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "criu")
	program := "#!/bin/sh\ncase $1 in --version) echo Version: 4.1;; swrk) ls -l /proc/$$/fd > " + dir + "/fds.$$; exit 1;; esac\n"
	if err := os.WriteFile(path, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	tool := New(path)
	var dumps sync.WaitGroup
	const n = 40
	for range n {
		dumps.Go(func() { // ends with the program
			err := tool.Dump(t.Context(), Dump{PID: os.Getpid(), Images: t.TempDir(), Work: t.TempDir()})
			if !errors.Is(err, ErrDump) {
				t.Error(err)
			}
		})
	}
	dumps.Wait()
	lists, err := filepath.Glob(filepath.Join(dir, "fds.*"))
	if err != nil || len(lists) != n {
		t.Errorf("%d programs ran, %v", len(lists), err)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		if sockets := strings.Count(string(text), "socket:"); sockets != 1 {
			t.Errorf("a criu has %d sockets:\n%s", sockets, text)
		}
	}
}
