package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// running is a daemon with a running container.
func running(t *testing.T) (*daemon, string) {
	d := newWorld(t).start()
	id := d.create(d.runPod(podConfig("web")), containerConfig("c"))
	d.begin(id)
	return d, id
}

// paper is a client that may be looked at while it is written to.
type paper struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func TestExec(t *testing.T) {
	d, id := running(t)
	var out, errout paper
	code, err := d.m.Exec(t.Context(), id, []string{"sh", "-c", "cat; echo err >&2; exit 7"},
		Streams{Stdin: strings.NewReader("typed"), Stdout: &out, Stderr: &errout})
	if err != nil || code != 7 || out.String() != "typed" || errout.String() != "err\n" {
		t.Errorf("code %d, %q, %q, %v", code, out.String(), errout.String(), err)
	}
	// What the client did not ask for is /dev/null.
	out = paper{}
	code, err = d.m.Exec(t.Context(), id, []string{"sh", "-c", "readlink /proc/self/fd/0 /proc/self/fd/2; cat"}, Streams{Stdout: &out})
	if err != nil || code != 0 || !strings.HasPrefix(out.String(), "/dev/null\n") {
		t.Errorf("code %d, %q, %v", code, out.String(), err)
	}
	if _, err := d.m.Exec(t.Context(), id, nil, Streams{}); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("no command: %v", err)
	}
	if _, err := d.m.Exec(t.Context(), "x", []string{"true"}, Streams{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no container: %v", err)
	}
	if full, err := d.m.RunningContainer(id[:10]); err != nil || full != id {
		t.Errorf("target %s, %v", full, err)
	}
	d.settled()
}

func TestExecOnTerminal(t *testing.T) {
	d, id := running(t)
	var out paper
	in, typed := io.Pipe()
	sizes := make(chan TerminalSize)
	before := terminals(t)
	go func() {
		sizes <- TerminalSize{Width: 132, Height: 43}
		_, _ = typed.Write([]byte("go\n"))
	}()
	code, err := d.m.Exec(t.Context(), id, []string{"sh", "-c", "test -t 0 && test -t 2 && stty -echo; read line; echo $line; until stty size | grep -v '^0 0$'; do sleep 0.01; done; exit 3"},
		Streams{Stdin: in, Stdout: &out, TTY: true, Resize: sizes})
	if err != nil || code != 3 || !strings.HasSuffix(out.String(), "go\r\n43 132\r\n") {
		t.Errorf("code %d, %q, %v", code, out.String(), err)
	}
	typed.Close()
	if after := terminals(t); after > before {
		t.Errorf("%d terminals are open, %d were before", after, before)
	}
	d.settled()
}

// TestExecClientGoes has the client go away: a terminal hangs up, and without one
// the command goes on, its output read.
func TestExecClientGoes(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) { // under nohup(1), and so would be all that is started here
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGHUP)
		t.Cleanup(func() { signal.Stop(caught) })
	}
	d, id := running(t)
	sizes := make(chan TerminalSize)
	close(sizes)
	code, err := d.m.Exec(t.Context(), id, []string{"sleep", "1000"}, Streams{Stdout: &paper{}, TTY: true, Resize: sizes})
	if err != nil || code != 128+1 { // SIGHUP
		t.Errorf("terminal: code %d, %v", code, err)
	}
	code, err = d.m.Exec(t.Context(), id, []string{"sh", "-c", "head -c 1000000 /dev/zero; exit 4"}, Streams{Stdout: brokenClient{}})
	if err != nil || code != 4 {
		t.Errorf("pipes: code %d, %v", code, err)
	}
	d.settled()
}

type brokenClient struct{}

func (brokenClient) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestExecEndsWithItsContext(t *testing.T) {
	d, id := running(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := &hangsUp{after: "\n", hangUp: cancel}
	if _, err := d.m.Exec(ctx, id, []string{"sh", "-c", "sleep 1000 & echo $!; wait"}, Streams{Stdout: out}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("the command's child is killed too", func() error {
		if err := syscall.Kill(child, 0); err == nil {
			return fmt.Errorf("process %d lives", child)
		}
		return nil
	})
}

// hangsUp is a client that goes when it has read a word.
type hangsUp struct {
	paper
	after  string
	hangUp func()
}

func (c *hangsUp) Write(b []byte) (int, error) {
	n, err := c.paper.Write(b)
	if strings.Contains(c.String(), c.after) {
		c.hangUp()
	}
	return n, err
}

// slowClient takes its time for each write.
type slowClient struct{ paper }

func (c *slowClient) Write(b []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return c.paper.Write(b)
}

// TestExecGivesSlowClientsAll has a command end long before its client has read
// what it wrote.
func TestExecGivesSlowClientsAll(t *testing.T) {
	d, id := running(t)
	const size = 2 << 20
	var out slowClient
	code, err := d.m.Exec(t.Context(), id, []string{"head", "-c", "2097152", "/dev/zero"}, Streams{Stdout: &out})
	if err != nil || code != 0 || out.text.Len() != size {
		t.Errorf("code %d, %d bytes, %v", code, out.text.Len(), err)
	}
	begin := time.Now()
	code, err = d.m.Exec(t.Context(), id, []string{"sh", "-c", "sleep 4 & echo done"}, Streams{Stdout: &paper{}})
	if err != nil || code != 0 || time.Since(begin) > 3*time.Second {
		t.Errorf("a child that holds the pipe: code %d after %v, %v", code, time.Since(begin), err)
	}
}

func TestReopenContainerLog(t *testing.T) {
	w := newWorld(t)
	d := w.start()
	pod := podConfig("web")
	pod.LogDirectory = w.dir + "/logs"
	config := containerConfig("c")
	config.LogPath = "c.log"
	podID := d.runPod(pod)
	id := d.create(podID, config)
	if err := d.m.ReopenContainerLog(t.Context(), id); !errors.Is(err, ErrState) {
		t.Errorf("before the start: %v", err)
	}
	d.begin(id)
	path := w.dir + "/logs/c.log"
	rename(t, path, path+".1")
	refused := errors.New("refused")
	d.fail("reopen", refused)
	if err := d.m.ReopenContainerLog(t.Context(), id); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if exists(path) {
		t.Error("a new file was left after an error")
	}
	d.fail("reopen", nil)
	if err := d.m.ReopenContainerLog(t.Context(), id); err != nil || !exists(path) {
		t.Errorf("got %v, new file: %v", err, exists(path))
	}
	silent := d.create(podID, containerConfig("silent"))
	d.begin(silent)
	if err := d.m.ReopenContainerLog(t.Context(), silent); !errors.Is(err, ErrState) {
		t.Errorf("without a log: %v", err)
	}
}
